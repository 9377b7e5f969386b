"""Read run folders without their weights: state, scores and time, for the commands info, list and compare."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bixt3d.engine.folder import RECORD, near_run, read_record
from bixt3d.engine.report import read_rows
from bixt3d.errors import InputError
from bixt3d.io.bounds import LIST_BYTES, counted, listed, printable, read_words
from bixt3d.io.pretrained import find_run
from bixt3d.io.untrusted import MAX_YAML, read_json, read_yaml
from bixt3d.tasks import find_task
from bixt3d.tasks.scores import Score


@dataclass(frozen=True)
class RunFolder:
    """A run folder, read without its weights.

    Args:
        folder: the folder of the run.
        task: the name of its task.
        began: start time in ISO format.
        seeds: those of a run of several seeds, each with its own folder; else None.
        settings: the content of config.yaml.
        rows: those of metrics.csv.
        result: the content of result.json, which a run writes at its end.
    """

    folder: Path
    task: str
    began: str
    seeds: tuple[int, ...] | None
    settings: dict[str, Any]
    rows: list[dict[str, float]]
    result: dict[str, Any]

    @property
    def headline(self) -> Mapping[str, Score]:
        """The main scores of the task; empty for an unknown task."""
        task = find_task(self.task)
        return task.headline if task else {}

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return int(self.rows[-1]["epoch"]) if self.rows else int(self.result.get("epochs", 0))

    def progress(self, epochs: int | None = None) -> str:
        """Return finished epochs and planned length as text, as in ``2 of 3``, or ``2, 60 steps planned``.

        ``epochs``: the number of finished epochs, if it is not this run's own.
        """
        train, done = self.settings.get("train") or {}, self.epochs if epochs is None else epochs
        if not train.get("steps"):
            return f"{done} of {train.get('epochs', '?')}"
        return f"{done}, {train['steps']} steps" + " planned" * (not self.finished)

    @property
    def finished(self) -> bool:
        """Whether result.json is there and is that of the last epoch; of several seeds: also that of each."""
        if self.seeds:
            return self.result.get("seeds") == list(self.seeds) and not self.unfinished_seeds()
        return bool(self.result) and self.result.get("epochs") == self.epochs

    @property
    def last_result(self) -> dict[str, Any]:
        """The content of result.json if it is of the last epoch; else empty, as for a finished run that was resumed."""
        return self.result if self.finished else {}

    @property
    def state(self) -> str:
        """The state of the run, as text."""
        if self.finished:
            return "finished" + (f", {counted(len(self.seeds), 'seed')}" if self.seeds else "")
        if self.seeds:
            return f"unfinished, {len(self.seeds) - len(self.unfinished_seeds())} of {len(self.seeds)} seeds finished"
        return f"unfinished, epoch {self.progress()}"

    def score(self, name: str) -> float | None:
        """Return a main score: of the result, or of the last epoch that was evaluated, or None."""
        if self.finished:
            value = self.result.get(name)
            return value.get("mean") if isinstance(value, dict) else value
        column = f"test_{self.headline[name].column}"
        return next((row[column] for row in reversed(self.rows) if column in row), None)

    @property
    def scored_epoch(self) -> int:
        """The last epoch that was evaluated on the test set, or 0."""
        columns = {f"test_{score.column}" for score in self.headline.values()}
        return next((int(row["epoch"]) for row in reversed(self.rows) if columns & row.keys()), 0)

    def score_words(self, name: str) -> str:
        """Return a score as text, with its standard deviation over the seeds."""
        value, number_format = self.score(name), self.headline[name].number_format
        if value is None:
            return "-"
        if not self.finished:
            return f"{value:{number_format}} (epoch {self.scored_epoch})"
        several = self.result.get(name)
        deviation = several["deviation"] if isinstance(several, dict) and len(self.seeds or ()) > 1 else None
        return f"{value:{number_format}}" + (f" +- {deviation:{number_format}}" if deviation is not None else "")

    def runs_of_seeds(self) -> list["RunFolder"]:
        """Return the runs of the seeds that have begun."""
        places = [self.folder / f"seed{seed}" for seed in self.seeds or ()]
        return [read_folder(place) for place in places if (place / RECORD).is_file()]

    def unfinished_seeds(self) -> list[Path]:
        """Return the folders of the seeds that have no run yet, or an unfinished one."""
        done = [run.folder for run in self.runs_of_seeds() if run.finished]
        return [place for seed in self.seeds or () if (place := self.folder / f"seed{seed}") not in done]


def read_folder(folder: Path) -> RunFolder:
    """Read a run folder. Raises InputError if it is no run, or a file is damaged."""
    record = read_record(folder) if folder.is_dir() else None
    if record is None:
        below = sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
        what = (
            "is no folder" + near_run(folder)
            if not folder.is_dir()
            else "has no run (no run.json and no model.safetensors): name "
            + (f"one of {listed(below)}" if below else "a run folder or a file")
        )
        raise InputError(f"{printable(folder)} {what}")
    config, result = folder / "config.yaml", folder / "result.json"
    settings = read_yaml(read_words(config, 4 * MAX_YAML), str(config)) if config.is_file() else {}
    found = read_json(read_words(result, LIST_BYTES), str(result)) if result.is_file() else {}
    if not (isinstance(settings, dict) and isinstance(found, dict)):
        raise InputError(f"{printable(config if isinstance(found, dict) else result)} is damaged: it is no mapping")
    rows = read_rows(folder / "metrics.csv")
    run = RunFolder(folder, record.task, record.began, record.seeds, settings, rows, found)
    check_numbers(found, run.headline, str(result))
    return run


NUMBERS = ("epochs", "steps", "seconds", "parameters", "peak_memory", "expected_calibration_error")
"""What result.json has as a number, besides scores and speeds."""


def check_numbers(found: Mapping[str, Any], headline: Mapping[str, Score], path: str) -> None:
    """Raise InputError for a result.json with a score that cannot be, or with text in place of a number."""
    for key in (key for key in found if key in NUMBERS or key.endswith("_per_second")):
        if found[key] is not None and type(found[key]) not in (int, float):
            raise InputError(f"{path} is damaged: {key} is no number")
    groups = {"": found} | {key: group for key, group in found.items() if isinstance(group, dict)}
    for name, score in headline.items():
        if not all(is_score(group[name], score, key) for key, group in groups.items() if name in group):
            share = " from 0 to 1" * score.number_format.endswith("%")
            raise InputError(f"{path} is damaged: {name} is no number{share}")
    if not isinstance(found.get("best_on_test"), dict | None):
        raise InputError(f"{path} is damaged: best_on_test has no scores")


def is_score(value: Any, score: Score, group: str = "") -> bool:
    """Return whether a value of a group of result.json can be this score: a number, or one with a second number.

    Those are mean and deviation over seeds, or the value of the best epoch and its number.
    """
    first, second = ("value", "epoch") if group == "best_on_test" else ("mean", "deviation")
    if isinstance(value, dict):
        of_one_seed = second == "deviation" and value.get(second, 0) is None
        return (of_one_seed or type(value.get(second)) in (int, float)) and is_score(value.get(first), score)
    if type(value) not in (int, float) or group == "best_on_test":
        return False
    return not score.number_format.endswith("%") or 0 <= value <= 1


def find_runs(root: Path) -> Iterator[Path]:
    """Yield the folders of runs below a folder; a run of several seeds is one."""
    places = {path.parent for name in (RECORD, "model.safetensors") for path in root.rglob(name)}
    for place in sorted(places):
        if not ((place.parent / RECORD).is_file() and place.name.startswith("seed")):
            yield place


def runs_at(place: Path) -> list[Path]:
    """Return a run folder; for a folder that is no run, those below it, if there are any, and a line says so."""
    below = [] if not place.is_dir() or read_record(place) else list(find_runs(place))
    if below:
        print(f"{printable(place)} is no run itself: {counted(len(below), 'run')} below it", file=sys.stderr)
    return below or [place]


def runs_of(places: Sequence[Path]) -> list[RunFolder]:
    """Return the runs at these places; of a folder of runs, a line names each that cannot be read.

    Raises InputError for a run that is named itself, or if no run of a folder can be read.
    """
    found: dict[Path, RunFolder] = {}
    for place in map(find_run, places):
        folders, faults = runs_at(place), []
        for folder in folders:
            try:
                run = read_folder(folder)
                run.runs_of_seeds()
                found[folder] = run
            except InputError as error:
                faults.append(error)
        if len(faults) == len(folders):
            raise faults[0]
        for error in faults:
            print(f"not in the table: {printable(error)}", file=sys.stderr)
    return list(found.values())


def duration(seconds: Any) -> str:
    """Return seconds as text in s, min or h."""
    if not isinstance(seconds, int | float):
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def table(rows: list[list[str]]) -> str:
    """Return rows as aligned columns; control characters in them are shown as codes."""
    shown = [[printable(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )
