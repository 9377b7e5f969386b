"""Files that are either whole or not there: checkpoints to resume from, weights to share, small text files."""

import contextlib
import errno
import json
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bixt3d.types import InputError


def write_whole(path: Path, write: Callable[[Path], Any], new: bool = False) -> None:
    """Call ``write`` on a temporary path, then move the result into place, once the disk has it.

    Raises InputError if it does not fit, or with ``new`` if there is such a file already.
    """
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync(temporary)
        _put_new(temporary, path) if new else os.replace(temporary, path)
        _sync(path.parent)
    except FileExistsError as error:
        raise InputError(f"could not write {path}: there is one already; choose another folder") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"could not write {path}: {_reason(error)}; free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the folder itself may be what is wrong
            temporary.unlink(missing_ok=True)


def _host() -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in socket.gethostname())


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder (where the system can say so of a folder)."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without it, or a device
            raise
    finally:
        os.close(handle)


def _put_new(temporary: Path, path: Path) -> None:
    """Give a file its name, if no other file has it: one process of several that try succeeds."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        with path.open("xb") as file:
            file.write(temporary.read_bytes())


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of programs that were killed on this machine; others may still be written."""
    for path in folder.glob(f".*.{_host()}.*.tmp"):
        number = path.name.split(".")[-2]
        if number.isdecimal() and not _lives(int(number)):
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    """Say whether another process of this number exists; this one has its number from a dead one and writes nothing."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user, or no way to know
        return True
    return True


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
        with zipfile.ZipFile(path) as archive:
            if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
                raise ValueError("compressed: it may be larger than the memory")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("no state")
        return state
    except Exception as error:  # noqa: BLE001 (torch names no common class for broken files)
        raise InputError(f"{path} is damaged, or not a checkpoint of bixt3d") from error


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Save weights alone as safetensors, with what is needed to build their model again."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, metadata)
    write_whole(path, lambda temporary: temporary.write_bytes(_with_sorted_header(content)))


def _with_sorted_header(content: bytes) -> bytes:
    """Return a safetensors file whose metadata are in order: the library's own differs from process to process.

    The file is the length of the header in eight bytes, the header in JSON filled up to a multiple of eight, the data.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


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
