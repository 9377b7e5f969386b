"""``bixt3d compare run``: train configs with several seeds under one budget, and compare the runs in one table."""

import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bixt3d.cli.choice import TASKS, find
from bixt3d.cli.parser import ALWAYS, Parser
from bixt3d.errors import InputError
from bixt3d.io.bounds import counted, listed

DESCRIPTION = "Train configs with several seeds under one budget of time or steps, and compare them in one table."
EPILOG = f"""settings for all runs are given as in bixt3d train: --data.root FOLDER --train.batch_size 16

Each config is a run folder below --out, with a folder for each seed. The same command again skips what is finished and
resumes what was interrupted or is missing. It writes table.md, table.csv, curves.png and cost.png for these runs and
earlier ones there of the same task and budget: scores of the last epoch on the test set, mean +- standard deviation
over the seeds. No epoch is selected on the test set.

examples:
  bixt3d compare run --cfgs shapes_cls modelnet10_small --data Shapes --seeds 0,1,2 --budget 15m
  bixt3d compare run --cfgs rooms_small rooms_small+scenes_pointnet2 --seeds 0,1 --budget 2000 --jobs 2

{ALWAYS}"""
TINY = 4
"""Steps of the budget ``tiny``."""
OWN = ("--cfg", "--run_dir", "--resume", "--seed", "--train.epochs", "--train.steps", "--train.budget")
"""Options of training that this command sets itself."""


def make_parser() -> Parser:
    """Return the parser of the command line; other options are settings of the runs."""
    parser = Parser("compare run", DESCRIPTION, EPILOG)
    parser.add_argument(
        "--cfgs", nargs="+", required=True, metavar="CONFIG", help="names or files of configs; A+B: A, changed by B"
    )
    parser.add_argument("--seeds", default="0", metavar="0,1,2", help="seeds of the runs of each config (default: 0)")
    parser.add_argument(
        "--budget",
        required=True,
        metavar="15m",
        help="training of each run: a time without evaluation (15m, 90s, 1h), whose number of steps is measured first; "
        "a number of steps (2000); or tiny, 4 steps to try the command",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder (default: runs/compare)")
    parser.add_argument(
        "--jobs", type=int, default=1, help="configs to train side by side, each with its share of threads"
    )
    parser.add_argument("--task", choices=tuple(TASKS), help="task of the configs (default: that of their models)")
    return parser


def main(argv: Sequence[str]) -> None:
    """Train what is not finished, then print and write the table. Raises InputError at the end if a run failed."""
    given, settings = make_parser().parse_known_args(argv)
    if given.jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {given.jobs}")
    if own := [word for word in settings if word.split("=")[0] in OWN]:
        raise InputError(f"{own[0].split('=')[0]} is not for all runs: --cfgs, --seeds, --out and --budget say it")
    from bixt3d.cli.side_by_side import train_side_by_side
    from bixt3d.tasks.job import explain_stop

    with explain_stop(lambda: "what is finished is kept, and the same command goes on"):
        plans = make_plans(given, settings)
        for plan in plans:
            print(f"{plan.name}: {plan.state} ({plan.folder})", flush=True)
        commands = {plan.name: plan.command for plan in plans if plan.command}
        failed = train_side_by_side(commands, given.jobs, given.out)
        report(plans, given)
    if failed:
        raise InputError(
            f"{len(failed)} of {counted(len(plans), 'config')} did not end: {listed(failed)}; "
            "what is finished is kept: mend what the errors above or in the log say, then the same command goes on"
        )


@dataclass(frozen=True)
class Plan:
    """A config to train: its name, its run folder, what is there, and what is left to do.

    ``command``: the arguments of ``bixt3d``; none if the run is finished.
    """

    name: str
    folder: Path
    state: str
    command: tuple[str, ...]


def make_plans(given: Namespace, settings: Sequence[str]) -> list[Plan]:
    """Return what to do for each config. Raises InputError for anything that no run would accept, before one begins."""
    from bixt3d.tasks.command import parse_seeds

    seeds, length = parse_seeds(given.seeds), length_of(given.budget)
    configs = {"+".join(Path(part).stem for part in parts_of(cfg)): parts_of(cfg) for cfg in given.cfgs}
    if len(configs) < len(given.cfgs):
        raise InputError("two of --cfgs have the same name, and so the same folder: name each once, or rename a file")
    tasks = {name: find(given.task) if given.task else task_of(parts) for name, parts in configs.items()}
    if len({task.name for task in tasks.values()}) > 1:
        those = ", ".join(f"{name} does {task.name}" for name, task in tasks.items())
        raise InputError(f"configs of one task can be compared, but {those}")
    plans = []
    for name, parts in configs.items():
        options = [*(f"--cfg={part}" for part in parts), *settings, length]
        plans.append(make_plan(name, given.out / name, tasks[name], options, seeds))
    return plans


def make_plan(name: str, folder: Path, task: Any, options: list[str], seeds: list[int]) -> Plan:
    """Return what to do for one config. Raises InputError if its folder has a run of other settings or seeds."""
    from bixt3d.cli.runs import read_folder
    from bixt3d.engine.folder import RECORD, read_record
    from bixt3d.io.untrusted import read_yaml
    from bixt3d.tasks.command import parse_command, seeds_to_go
    from bixt3d.tasks.settings import make_run

    check_place(folder)
    _, parser, asked = parse_command(task, None, options)
    make_run(parser, asked, model=False)
    start = ("train", task.program)
    if not (folder / RECORD).is_file():
        return Plan(
            name, folder, "new", (*start, *options, f"--seeds={','.join(map(str, seeds))}", f"--run_dir={folder}")
        )
    run = read_folder(folder)
    config = read_yaml(parser.dump(asked, skip_unset=False), "the settings")
    if run.task != task.name or (different := difference(config, run.settings)):
        raise InputError(
            f"{folder} has a run of {run.task if run.task != task.name else different}: name another --out"
        )
    own = list(run.seeds or ())
    seeds = own if set(seeds) <= set(own) else seeds_to_go(folder, read_record(folder), seeds)
    if run.finished and seeds == own:
        return Plan(name, folder, "finished, skipped", ())
    threads = asked.runtime.threads
    passed_on = ["--trust"] * parser.trust + [f"--runtime.threads={threads}"] * (threads is not None)
    return Plan(
        name, folder, "resumed", (*start, f"--resume={folder}", f"--seeds={','.join(map(str, seeds))}", *passed_on)
    )


def check_place(folder: Path) -> None:
    """Raise InputError if a folder cannot be made for a file, or has files of a run without the run.json."""
    from bixt3d.engine.folder import RECORD, check_free

    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"{place} is a file: --out names the folder of the comparison, with a folder for each run")
    if not (folder / RECORD).is_file():
        try:
            check_free(folder)
        except InputError as error:
            raise InputError(
                f"{folder} has files of a run, but no {RECORD} to go on with it: move it away, or name another --out"
            ) from error


def difference(asked: dict[str, Any], saved: dict[str, Any], group: str = "") -> str:
    """Return in words the first setting that differs, or an empty text; what a run sets itself is left out."""
    for key in (key for key in asked if key in saved):
        name, new, old = f"{group}{key}", asked[key], saved[key]
        if isinstance(new, dict) and isinstance(old, dict):
            if words := difference(new, old, f"{name}."):
                return words
        elif new != old and name not in ("seed", "runtime.threads") and not (name == "train.steps" and new is None):
            return f"{name} {old}, not {new}"
    return ""


def length_of(budget: str) -> str:
    """Return the setting of a budget: the steps, or the time, of training; equal times, such as 60s and 1m, alike."""
    from bixt3d.tasks.settings import seconds_of

    if found := re.fullmatch(r"0*([1-9]\d*)(?: ?steps)?", budget):
        return f"--train.steps={found[1]}"
    if budget == "tiny":
        return f"--train.steps={TINY}"
    try:
        seconds = seconds_of(budget)
    except InputError as error:
        raise InputError(
            f"--budget is a time such as 90s, 15m or 2h, a number of steps such as 2000, or tiny, not '{budget}'"
        ) from error
    return f"--train.budget={seconds / 60:.0f}m" if seconds % 60 == 0 else f"--train.budget={seconds:.12g}s"


def budget_words(budget: str) -> str:
    """Return a budget as text: ``4 steps``, ``15 minutes``."""
    key, value = length_of(budget).split("=")
    if key == "--train.steps":
        return counted(int(value), "step")
    number, word = value[:-1], {"s": "second", "m": "minute"}[value[-1]]
    return f"{number} {word}{'s' * (number != '1')}"


def parts_of(cfg: str) -> list[str]:
    """Return the configs of ``A+B``, each of which changes those before it."""
    return [cfg] if Path(cfg).is_file() else cfg.split("+")


def task_of(parts: Sequence[str]) -> Any:
    """Return the task of merged configs: that of the last one that names a model."""
    from bixt3d.config import read_config
    from bixt3d.io.named_configs import find_config
    from bixt3d.tasks.from_python import choose_task

    paths = [str(find_config(part)) for part in parts]
    models = {path: (read_config(path) or {}).get("model") for path in paths}
    named = [path for path, model in models.items() if model and (isinstance(model, str) or "class_path" in model)]
    return choose_task(None, (named or paths)[-1])


def report(plans: Sequence[Plan], given: Namespace) -> None:
    """Print and write the table of the runs that have begun."""
    from bixt3d.cli.comparison import earlier_runs, markdown, notes_on, row_of, write
    from bixt3d.cli.runs import read_folder
    from bixt3d.engine.folder import RECORD

    runs = [read_folder(plan.folder) for plan in plans if (plan.folder / RECORD).is_file()]
    if not runs:
        return
    runs += earlier_runs(given.out, runs[0], [plan.folder for plan in plans])
    rows = [row_of(run) for run in runs]
    notes = [*notes_on(runs, best=False), f"Budget of training for each seed: {budget_words(given.budget)}."]
    text = "\n".join([markdown(runs, rows, best=False), *notes])
    print(text)
    write(given.out, runs, rows, text)
