"""Read and write weights as safetensors, with metadata and a checksum; compare them with those of a model."""

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
from bixt3d.io.writing import write_whole
from bixt3d.types import InputError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LONGEST_HEADER = 2**24
"""The most bytes of names, shapes and metadata at the beginning of a safetensors file."""


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Save weights as safetensors, with the metadata that is needed to build their model again.

    Equal weights and metadata give identical files. A checksum of both is added to the metadata.
    """
    weights = {name: _own_copy(weights[name]) for name in sorted(weights)}
    content = save(weights, metadata | {"checksum": checksum(weights, metadata)})
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])  # safetensors shuffles the metadata
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    whole = len(text).to_bytes(8, "little") + text + content[8 + size :]
    write_whole(path, lambda temporary: temporary.write_bytes(whole))


def _own_copy(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU that shares memory with no other: safetensors refuses tied parameters."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


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
        if fault := fault_of(tensor):
            raise InputError(f"{source} is damaged: '{printable(name)[:200]}' has {fault}")


def check_buffers(model: torch.nn.Module) -> None:
    """Raise InputError for a buffer with which the saved weights of a model could not be loaded again."""
    saved = model.state_dict()
    for name in (name for name, _ in model.named_buffers() if name in saved):
        if fault := fault_of(saved[name]):
            raise InputError(
                f"the model's buffer '{name}' has {fault}, so its weights could not be loaded again: register it with "
                "persistent=False"
            )


def fault_of(tensor: Tensor) -> str:
    """Return what a weight must not have: NaN or infinity, or a dtype that no model uses; empty if it has none."""
    if tensor.dtype not in (*FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool):
        return f"a dtype that no model uses, {tensor.dtype}"
    return "" if torch.isfinite(tensor).all() else "values that are not finite numbers"


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
