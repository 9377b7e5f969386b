"""Log metrics to metrics.csv and TensorBoard, read them again, and find the commit of the code."""

import csv
import io
import subprocess
from collections.abc import Mapping
from functools import cache
from math import isfinite
from pathlib import Path

from bixt3d.engine.checkpoint import write_text
from bixt3d.types import InputError

MAX_CHARACTERS, MAX_COLUMNS = 2**23, 1000
"""Limits of a metrics.csv: about 30,000 epochs with 25 metrics each."""


@cache
def commit() -> str:
    """Return the commit of the code at the first call, with + for uncommitted changes; empty outside a checkout."""
    return commit_of(Path(__file__))


def commit_of(file: Path) -> str:
    """Return the commit of a file that git tracks; empty for others, such as packages installed below a repository."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(file.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--dirty=+")
    except (OSError, subprocess.SubprocessError):
        return ""


class RunLog:
    """Write the metrics of a run, one row for each epoch, to metrics.csv and TensorBoard.

    Args:
        folder: the run folder.
        rows: the rows of the epochs so far.
        write: write files; false in all processes but the first.
    """

    def __init__(self, folder: Path, rows: list[dict[str, float]], write: bool = True):
        self.folder, self.path, self.rows, self.board = folder, folder / "metrics.csv", list(rows), None
        if write:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=len(rows) + 1)

    def add(self, row: Mapping[str, float]) -> None:
        """Add the row of an epoch, or new columns to the last row, and write metrics.csv whole."""
        known = self.rows.pop() if self.rows and self.rows[-1]["epoch"] == row["epoch"] else {}
        self.rows.append(known | dict(row))
        if self.board is None:
            return
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in self.rows)
        write_text(self.path, text.getvalue())
        for name in row.keys() - known.keys():
            self.board.add_scalar(name, row[name], int(row["epoch"]))

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self.board is not None:
            self.board.close()

    def best(self, name: str, more_is_better: bool = True) -> dict[str, float] | None:
        """Return the earliest row with the best value of a column; None if no row has the column."""
        rows = [row for row in self.rows if name in row]
        return (max if more_is_better else min)(rows, key=lambda row: row[name]) if rows else None


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the rows of a metrics.csv; an empty list without a file. Raises InputError if it is damaged."""
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read(MAX_CHARACTERS + 1)
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if len(text) > MAX_CHARACTERS or len(reader.fieldnames or ()) > MAX_COLUMNS:
            raise ValueError(f"more than {MAX_CHARACTERS:,} characters, or than {MAX_COLUMNS} columns")
        rows = [{name: float(value) for name, value in row.items() if value} for row in reader]
    except TypeError as error:
        raise InputError(f"{path} is damaged: a row is longer than the names of its columns") from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    if any("epoch" not in row or not all(map(isfinite, row.values())) for row in rows):
        raise InputError(f"{path} is damaged: not every row has an epoch and finite numbers")
    return rows
