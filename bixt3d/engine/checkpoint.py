"""Read and write the files of a run: checkpoints to resume from, weights to share, text and JSON."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bixt3d.io.bounds import printable
from bixt3d.io.untrusted import load_tensors
from bixt3d.io.writing import write_whole
from bixt3d.types import InputError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LONGEST_HEADER = 2**24
"""The most bytes of names, shapes and metadata at the beginning of a safetensors file."""


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


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Save weights as safetensors, with the metadata that is needed to build their model again.

    Equal weights and metadata give identical files. A checksum of both is added to the metadata.
    """
    weights = {name: weights[name].detach().cpu().contiguous() for name in sorted(weights)}
    content = save(weights, metadata | {"checksum": checksum(weights, metadata)})
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])  # safetensors shuffles the metadata
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    whole = len(text).to_bytes(8, "little") + text + content[8 + size :]
    write_whole(path, lambda temporary: temporary.write_bytes(whole))


def checksum(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of weights and metadata, by which a damaged file is found."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode() if metadata else b"")
    for name in sorted(weights):
        digest.update(weights[name].contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file without its tensors. Raises InputError if it is missing or damaged."""
    with _open(path) as file:
        return file.metadata() or {}


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load weights and metadata. Raises InputError if the file is missing or damaged, or contains NaN or infinity."""
    with _open(path) as file:
        weights, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    check_finite(weights, str(path))
    known = metadata.pop("checksum", None)
    # earlier versions took the checksum of the weights alone
    if known not in (None, checksum(weights, metadata)) and known != checksum(weights, {}):
        raise InputError(f"{path} is damaged: its weights or its metadata are not those that were written")
    return weights, metadata


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"there are no weights {path}")
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > LONGEST_HEADER:
                raise InputError(f"{path} is not a safetensors file, or it is damaged")
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a safetensors file, or it is damaged") from error


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Raise InputError with the name of the first tensor that has NaN or infinity, or a dtype that no model uses."""
    for name, tensor in weights.items():
        if tensor.dtype not in (*FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool):
            raise InputError(f"{source} has a tensor of a dtype that no model uses: '{printable(name)[:200]}'")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{source} is damaged: '{printable(name)[:200]}' has values that are not finite numbers")


def fit_weights(model: torch.nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load weights into a model. Raises InputError if they do not fit, and then changes nothing."""
    check_fit(model.state_dict(), weights, source)
    model.load_state_dict(weights)


def check_fit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    """Raise InputError unless ``weights`` have the names, shapes and kinds of dtype of ``own``, a model's weights."""
    missing, foreign = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [name for name in own.keys() & weights.keys() if not alike(own[name], weights[name])]
    if not (missing or foreign or shapes):
        return
    example = printable((missing or foreign or sorted(shapes))[0])[:200]
    raise InputError(
        f"{source} contains the weights of another model: {len(missing)} tensors missing, {len(foreign)} unknown, "
        f"{len(shapes)} of another shape (such as {example}); give the config that it was trained with"
    )


def alike(own: Tensor, other: Tensor) -> bool:
    """Say whether two tensors have the same shape, and are both of floating point or both not."""
    return own.shape == other.shape and own.is_floating_point() == other.is_floating_point()
