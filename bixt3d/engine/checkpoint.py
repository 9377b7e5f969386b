"""Read and write the files of a run: checkpoints to resume from, text and JSON."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bixt3d.io.bounds import printable
from bixt3d.io.untrusted import load_tensors
from bixt3d.io.writing import write_whole
from bixt3d.types import InputError


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all. Raises InputError for NaN and infinity, which JSON does not have."""
    try:
        text = json.dumps(content, indent=2, allow_nan=False)
    except ValueError as error:
        raise InputError(f"{path} was not written: a figure is not a finite number; the weights are damaged") from error
    write_text(path, text + "\n")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save the state that a run resumes from, whole or not at all."""
    write_whole(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint without running code of the file. Raises InputError if it is missing or damaged."""
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}: nothing to resume from")
    try:
        state = load_tensors(path.read_bytes())
    except Exception as error:  # noqa: BLE001 (torch names no common class for broken files)
        raise InputError(f"{path} is not a checkpoint of bixt3d, or it is damaged") from error
    if fault := _fault_of(state):
        raise InputError(f"{path} is not a checkpoint of bixt3d, or it is damaged: {fault}")
    return state


@contextlib.contextmanager
def must_fit(path: Path) -> Iterator[None]:
    """Turn errors from loading the state of an optimizer or schedule into one InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = printable(next(iter(str(error).splitlines()), type(error).__name__))[:200]
        raise InputError(f"{path} does not fit this run, or it is damaged: {reason}") from error


def _fault_of(state: Any) -> str | None:
    """Return in words what is wrong with the content of a checkpoint; None if nothing is."""
    if not isinstance(state, dict):
        return "it contains no epochs"
    epoch, seconds, rows, training = (state.get(key) for key in ("epoch", "seconds", "rows", "learner"))
    if not (type(epoch) is int and epoch >= 0 and isinstance(seconds, int | float) and 0 <= seconds < float("inf")):
        return "it does not say how long the run has trained"
    if not (isinstance(rows, list) and all(map(_is_row, rows))):
        return "it contains no rows of metrics"
    needed = ("model", "optimizer", "schedule")
    if not (isinstance(training, dict) and all(isinstance(training.get(key), dict) for key in needed)):
        return "it contains no training state"
    model = training["model"]
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in model.items()):
        return "its weights are not tensors"
    return None


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(k, str) and isinstance(v, int | float) for k, v in row.items())
