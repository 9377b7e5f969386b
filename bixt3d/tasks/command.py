"""Parse the command line of training: run folder, run to resume, seeds, and the settings of the run."""

import os
from argparse import ArgumentError, ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bixt3d.config import SettingsParser
from bixt3d.engine.folder import RECORD, Record, check_free, newest_to_resume, read_record
from bixt3d.engine.launch import was_launched
from bixt3d.io.known_classes import command_line
from bixt3d.tasks.settings import check_seed
from bixt3d.tasks.task import Task
from bixt3d.types import InputError


@dataclass
class Where:
    """The folder of a run, new or to be resumed.

    Args:
        folder: the run folder; None: a new one under runs/.
        name: prefix of the name of a new folder.
        seeds: the seeds of a run of several, or None.
        record: record of the run to resume; None: a new run.
        named: whether the run to resume was named, and not just the newest.
        trust: whether it imports classes that are not bixt3d's.
    """

    folder: Path | None
    name: str
    seeds: list[int] | None
    record: Record | None = None
    named: bool = True
    trust: bool = False

    def to_resume(self, task: Task, *more: str) -> str:
        """Return the command that resumes the run."""
        return command_line(task.command("train"), "--resume", str(self.folder), *more, trust=self.trust)


def parse_command(task: Task, description: str | None, argv: Sequence[str]) -> tuple[Where, SettingsParser, Any]:
    """Parse the command line; return run folder, parser and settings. Raises InputError for what is wrong."""
    place = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    place.add_argument("--run_dir", type=Path)
    place.add_argument("--resume", nargs="?", const=True)
    place.add_argument("--seeds")
    try:
        asked, rest = place.parse_known_args(argv)
    except ArgumentError as error:
        raise InputError(str(error)) from error
    own, parser = list(rest), task.make_parser(description)
    parser.prog = task.command("train")
    for name, text in {
        "run_dir": "run folder, new or without files of another run (default: runs/NAME-TIME)",
        "resume": "resume the run in this folder; without a folder: the newest run",
        "seeds": "several seeds, such as 0,1,2: a run for each, with mean and standard deviation",
    }.items():
        parser.add_argument(f"--{name}", help=text)
    seeds = None if asked.seeds is None else parse_seeds(asked.seeds)
    where = Where(asked.run_dir, "", seeds)
    if asked.resume:
        if asked.run_dir:
            raise InputError("--resume names the run folder: leave out --run_dir")
        where = find_run(task, None if asked.resume is True else asked.resume, seeds)
        trust = ["--trust"] if "--trust" in rest else []
        saved = [*trust, "--cfg", str(where.folder / "config.yaml")]
        parse_saved(parser, saved)
        now = ["--runtime.devices=null", "--runtime.num_nodes=null"] if was_launched(os.environ) else []
        rest = [*saved, *now, *rest]  # with a launcher, its number of processes counts, not the earlier run's
    elif asked.run_dir and "--help" not in rest:
        check_free(asked.run_dir)
    settings = parser.parse_args(rest)
    if settings.data is None or settings.model is None:
        raise InputError(f"no data set and model given: name a config, as in `{task.example}`")
    settle_length(settings, {word.split("=")[0] for word in own}, where.record is not None)
    config = settings.cfg[-1] if settings.get("cfg") else None  # None also for settings that are not in a file
    where.trust = parser.trust
    where.name = task.program if config is None else Path(str(config)).stem
    for unsaved in ("cfg", "run_dir", "resume", "seeds"):
        settings.pop(unsaved, None)
    return where, parser, settings


def settle_length(settings: Any, given: set[str], resumed: bool) -> None:
    """Let the length that the command line gives, a budget, steps or epochs, replace that of the config.

    Raises InputError for both, and for a budget of a run to resume.
    """
    if "--train.budget" in given:
        if resumed or "--train.steps" in given:
            why = "a run to resume has its number of steps" if resumed else "--train.steps sets the length too"
            raise InputError(f"{why}: leave --train.budget out")
        settings.train.steps = None
    elif given & {"--train.steps", "--train.epochs"}:
        settings.train.budget = None
        if "--train.steps" not in given:
            settings.train.steps = None


def parse_saved(parser: SettingsParser, saved: Sequence[str]) -> None:
    """Raise InputError with the name of the file if the saved settings of a run are damaged."""
    try:
        parser.check_groups(parser.parse_args(saved))
    except InputError as error:
        raise InputError(f"{saved[-1]} cannot be resumed from: {error}") from error


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of ``--seeds 0,1,2``."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--seeds takes whole numbers with commas, such as 0,1,2, not '{text}'") from error
    for seed in seeds:
        check_seed(seed)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {text} names a seed twice: its second run would replace the first")
    return seeds


def find_run(task: Task, name: str | None, seeds: list[int] | None) -> Where:
    """Return the run to resume: the named one, or the newest of this task."""
    folder = Path(name) if name else newest_to_resume(Path("runs"), task.name, task.example)
    if not (folder / "config.yaml").is_file():
        inside = ", ".join(sorted(str(path.parent) for path in folder.glob("seed*/config.yaml")))
        more = f"; its seeds can be resumed one by one: {inside}" if inside else ""
        raise InputError(f"{folder} is no run folder: it has no config.yaml to resume from{more}")
    record = read_record(folder)
    if record is None:
        raise InputError(f"{folder} has no {RECORD} and no weights: start again with --cfg {folder / 'config.yaml'}")
    if record.task != task.name:
        raise InputError(f"{folder} is a run of {record.task}, and this program trains {task.name}")
    return Where(folder, "", seeds_to_go(folder, record, seeds), record, named=bool(name))


def seeds_to_go(folder: Path, record: Record, asked: list[int] | None) -> list[int] | None:
    """Return the seeds of a run to resume: its own, then additional ones that are asked for."""
    own = None if record.seeds is None else list(record.seeds)
    if asked is None or asked == own:
        return own
    if own is None:
        raise InputError(f"{folder} is a run of one seed: start one of several with a --run_dir of its own")
    if asked[: len(own)] != own:
        raise InputError(f"{folder} has the seeds {','.join(map(str, own))}: name these first, then more")
    return asked
