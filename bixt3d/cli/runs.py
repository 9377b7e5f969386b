"""What a run folder says of its run, for the commands that look at several: how far it is, how good, how long."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bixt3d.engine.folder import RECORD, read_record
from bixt3d.engine.report import read_rows
from bixt3d.errors import InputError
from bixt3d.io.bounds import LIST_BYTES, printable, read_words
from bixt3d.io.untrusted import MOST_YAML, read_json, read_yaml
from bixt3d.tasks import find_task
from bixt3d.tasks.scores import Score


@dataclass(frozen=True)
class RunFolder:
    """What the files of a run folder say, but for its weights.

    Args:
        folder: the run's.
        task: the name of its task.
        began: when, in ISO format.
        seeds: of a run of several seeds, each of which has a folder of its own.
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
        """The scores that sum up a run of this task; none of a task that is not known here."""
        task = find_task(self.task)
        return task.headline if task else {}

    @property
    def epochs(self) -> int:
        """How many epochs the run has behind it."""
        return int(self.rows[-1]["epoch"]) if self.rows else int(self.result.get("epochs", 0))

    @property
    def planned(self) -> str:
        """How long the run is to last, in words."""
        train = self.settings.get("train") or {}
        return f"{train['steps']} steps" if train.get("steps") else str(train.get("epochs", "?"))

    @property
    def finished(self) -> bool:
        """Whether the result is there and is that of the last epoch; of a run of several seeds, of all of them."""
        if self.seeds:
            return self.result.get("seeds") == list(self.seeds)
        return bool(self.result) and self.result.get("epochs") == self.epochs

    @property
    def state(self) -> str:
        """In words how far the run is."""
        several = f", {len(self.seeds)} seeds" if self.seeds else ""
        if self.finished:
            return "finished" + several
        return "unfinished" + (several or f", epoch {self.epochs} of {self.planned}")

    def score(self, name: str) -> float | None:
        """Return a score of the headline: of the result, or of the last epoch that was scored; None if none was."""
        if self.finished:
            value = self.result.get(name)
            return value.get("mean") if isinstance(value, dict) else value
        column = f"test_{self.headline[name].column}"
        return next((row[column] for row in reversed(self.rows) if column in row), None)

    @property
    def scored_epoch(self) -> int:
        """The last epoch that was scored on the test set; 0 if none was."""
        columns = {f"test_{score.column}" for score in self.headline.values()}
        return next((int(row["epoch"]) for row in reversed(self.rows) if columns & row.keys()), 0)

    def score_words(self, name: str) -> str:
        """Return a score as people read it, with its deviation over the seeds."""
        value, form = self.score(name), self.headline[name].number_format
        if value is None:
            return "-"
        several = self.result.get(name)
        if not self.finished:
            return f"{value:{form}} (epoch {self.scored_epoch})"
        return f"{value:{form}}" + (f" +- {several['deviation']:{form}}" if isinstance(several, dict) else "")

    def runs_of_seeds(self) -> list["RunFolder"]:
        """Return the run of each seed that has begun."""
        places = [self.folder / f"seed{seed}" for seed in self.seeds or ()]
        return [read_folder(place) for place in places if (place / RECORD).is_file()]


def read_folder(folder: Path) -> RunFolder:
    """Return what the files of a run folder say. Raises InputError if it is no run, or one of them is damaged."""
    record = read_record(folder) if folder.is_dir() else None
    if record is None:
        what = (
            "is no folder"
            if not folder.is_dir()
            else "holds no run (no run.json and no model.safetensors): name a run folder or a file"
        )
        raise InputError(f"{printable(folder)} {what}")
    config, result = folder / "config.yaml", folder / "result.json"
    settings = read_yaml(read_words(config, 4 * MOST_YAML), str(config)) if config.is_file() else {}
    found = read_json(read_words(result, LIST_BYTES), str(result)) if result.is_file() else {}
    if not (isinstance(settings, dict) and isinstance(found, dict)):
        raise InputError(f"{printable(config if isinstance(found, dict) else result)} is damaged: it holds no names")
    rows = read_rows(folder / "metrics.csv")
    return RunFolder(folder, record.task, record.began, record.seeds, settings, rows, found)


def find_runs(root: Path) -> Iterator[Path]:
    """Yield the folders of runs below a folder; a run of several seeds is one."""
    places = {path.parent for name in (RECORD, "model.safetensors") for path in root.rglob(name)}
    for place in sorted(places):
        if not ((place.parent / RECORD).is_file() and place.name.startswith("seed")):
            yield place


def duration(seconds: Any) -> str:
    """Return a number of seconds as people say it."""
    if not isinstance(seconds, int | float):
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def table(rows: list[list[str]]) -> str:
    """Return rows of words in columns that line up; names of files in them do nothing to a terminal."""
    shown = [[printable(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )
