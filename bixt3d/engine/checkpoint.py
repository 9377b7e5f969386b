"""Files that are either whole or not there: checkpoints to resume from, weights to share, small text files."""

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bixt3d.types import InputError


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` on a temporary path, then move the result into place. Raises InputError if it does not fit."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"could not write {path}: {_reason(error)}; free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the folder itself may be what is wrong
            temporary.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save all that a run needs to go on as if nothing had happened."""
    write_whole(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint; no code of the file is executed. Raises InputError if it is missing or broken."""
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}: nothing to resume from")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (torch names no common class for broken files)
        raise InputError(f"{path} is not a checkpoint of bixt3d, or it is damaged") from error


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Save weights alone as safetensors, with what is needed to build their model again."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_whole(path, lambda temporary: save_file(weights, temporary, metadata))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load weights and their metadata. Raises InputError if the file is missing or broken."""
    if not path.is_file():
        raise InputError(f"there are no weights {path}")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a safetensors file, or it is damaged") from error


def fit_weights(model: torch.nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Put weights into a model. Raises InputError with what does not fit, and then changes nothing."""
    own = model.state_dict()
    missing, foreign = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    if not (missing or foreign or shapes):
        model.load_state_dict(weights)
        return
    example = (missing or foreign or sorted(shapes))[0]
    raise InputError(
        f"{source} holds the weights of another model: {len(missing)} tensors missing, {len(foreign)} unknown, "
        f"{len(shapes)} of another shape (such as {example}); give the config that it was trained with"
    )
