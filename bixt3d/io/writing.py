"""Files that are either whole or not there, whatever ends the program that writes them."""

import contextlib
import errno
import glob
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bixt3d.errors import InputError


def write_whole(path: Path, write: Callable[[Path], Any], new: bool = False) -> None:
    """Call ``write`` on a temporary path, then move the result into place, once the disk has it.

    Raises InputError if it does not fit, or with ``new`` if there is such a file already.
    """
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync(temporary)
        _put_new(temporary, path) if new else os.replace(temporary, path)
        _sync(path.parent)
    except FileExistsError as error:
        raise InputError(f"could not write {path}: there is one already; choose another folder") from error
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"could not write {path}: {_reason(error)}; free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the folder itself may be what is wrong
            temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: if the writing fails with OSError, what was there before stays as it was."""
    part = temporary_name(path)
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Return the path beside a file under which this process writes it, and `remove_leftovers` finds it."""
    return path.with_name(f".{path.name}.{host_name()}.{os.getpid()}.tmp")


def host_name() -> str:
    """Return the name of this machine, as it stands in the names of temporary files."""
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


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files of programs that were killed on this machine; others may still be written.

    ``name``: only those of this file; None: of all files in the folder.
    """
    for path in folder.glob(f".{'*' if name is None else glob.escape(name)}.{host_name()}.*.tmp"):
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
