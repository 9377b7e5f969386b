"""Atomic writes: a file is complete or missing, whatever interrupts the program that writes it."""

import contextlib
import errno
import glob
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bixt3d.errors import InputError

PROBE = 2**16
"""Bytes that are written to learn why a file could not be written, where an error does not say it."""


class WriteError(InputError):
    """A file could not be written, as where the disk is full: the same call can succeed later."""


def write_whole(path: Path, write: Callable[[Path], Any], new: bool = False) -> None:
    """Write a file atomically and durably: call ``write`` with a temporary path, flush to disk, rename.

    Raises WriteError if it cannot be written, or with ``new`` if the file exists already.
    """
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync(temporary)
        _put_new(temporary, path) if new else os.replace(temporary, path)
        _sync(path.parent)
    except FileExistsError as error:
        problem = "there is one already" if path.parent.is_dir() else f"{path.parent} is a file"
        raise WriteError(f"could not write {path}: {problem}; choose another folder") from error
    except (OSError, RuntimeError) as error:
        raise write_error(path, _system_error(error, temporary)) from error
    finally:
        with contextlib.suppress(OSError):  # the folder itself may be what is wrong
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a WriteError that says that this file could not be written, and why."""
    try:
        yield
    except OSError as error:
        raise write_error(path, _system_error(error, path)) from error


def write_error(path: Path, error: Exception) -> WriteError:
    """Return an error that says that a file could not be written, why, and what to do."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    advice = "free some space or choose another folder" if full else "choose another folder"
    return WriteError(f"could not write {path}: {'the disk is full' if full else _reason(error)}; {advice}")


def _system_error(error: Exception, path: Path) -> Exception:
    """Return the error of the system behind one that does not name it, as of lazrs and NumPy: write to the file again.

    What is written is of no use, and the file neither.
    """
    if getattr(error, "errno", None) or not path.exists():
        return error
    try:
        with path.open("r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            file.write(bytes(PROBE))
    except OSError as found:
        return found
    return error


def reserve(file: BinaryIO, size: int) -> None:
    """Make a file as large as that, with zeros behind what it holds.

    Raises OSError if the disk is full: later, a mapped page would end the program.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system without it
                raise
    for start in range(file.seek(0, os.SEEK_END), size, block := 1 << 20):
        file.write(bytes(min(block, size - start)))
    file.flush()
    return None


def replace_file(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write bytes, or parts of them, to a file atomically: if that raises OSError, an old file stays unchanged."""
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Return the temporary path beside a file, unique to this process; `remove_leftovers` finds it."""
    return path.with_name(f".{path.name}.{host_name()}.{os.getpid()}.tmp")


def host_name() -> str:
    """Return the host name as part of a file name."""
    return "".join(letter if letter.isalnum() else "-" for letter in socket.gethostname())


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk (fsync), where the system supports it."""
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
    """Move a file to ``path`` unless it exists; if several processes try, one succeeds. Raises FileExistsError."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        with path.open("xb") as file:
            file.write(temporary.read_bytes())


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files of processes of this machine that no longer exist.

    ``name``: only those of this file; None: of all files in the folder.
    """
    for path in folder.glob(f".{'*' if name is None else glob.escape(name)}.{host_name()}.*.tmp"):
        number = path.name.split(".")[-2]
        if number.isdecimal() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    """Return whether another process with this id exists. Files with our own id are left by a dead process."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # a process of another user, or unknown
        return True
    return True
