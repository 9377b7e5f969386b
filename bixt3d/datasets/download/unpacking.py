"""Safe unpacking of archives: plain files and folders inside one folder, bounded in size, no pickles."""

import gzip
import stat
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from bixt3d.errors import InputError
from bixt3d.io.bounds import UNPACKED_FLOOR, UNPACKED_RATIO, printable, shortened
from bixt3d.io.fetching import RefusedError

MAX_ENTRIES = 200_000
HEADER_BYTES = 1 << 20
"""Largest single read from a tar file: tarfile reads headers whole, and the content of files in smaller pieces."""

SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


class _Bounded:
    """A decompressed tar file of at most ``limit`` bytes, read in pieces of at most ``HEADER_BYTES``."""

    def __init__(self, file: Any, limit: int):
        self.file, self.limit = file, limit
        self.tell, self.seek, self.close = file.tell, file.seek, file.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER_BYTES or self.file.tell() + size > self.limit + HEADER_BYTES:
            raise RefusedError("it would unpack to far more than its own size")
        return self.file.read(size)


def extract(path: Path, folder: Path) -> None:
    """Unpack a zip, tar, tar.gz or 7z file into an existing folder.

    Raises RefusedError if it is damaged or unsafe, InputError if a package is missing.
    """
    limit = UNPACKED_FLOOR + UNPACKED_RATIO * path.stat().st_size
    try:
        _method_for(path)(path, folder, limit)
    except (RefusedError, InputError):
        raise
    except OSError as error:
        if error.errno and not isinstance(error, gzip.BadGzipFile):
            raise  # the disk
        raise RefusedError(f"it is damaged: {error}") from error
    except Exception as error:  # noqa: BLE001 (zipfile, tarfile, gzip and zlib raise many types for damaged files)
        reason = shortened(printable(error)) or type(error).__name__
        raise RefusedError(f"it is damaged or unsafe: {reason}") from error


def _method_for(path: Path) -> Callable[[Path, Path, int], None]:
    with path.open("rb") as file:
        if file.read(len(SEVEN_ZIP)) == SEVEN_ZIP:
            return _extract_7z
    return _extract_zip if zipfile.is_zipfile(path) else _extract_tar


def _extract_7z(path: Path, folder: Path, limit: int) -> None:
    try:
        import py7zr
    except ImportError:
        raise InputError(
            f"{path.name} is a 7z archive, which py7zr unpacks: run `pip install 'bixt3d[psb]'` and then the same "
            "command, or unpack it by hand as `bixt3d download --layouts` says"
        ) from None
    with py7zr.SevenZipFile(path, max_extract_size=limit) as file:
        entries = file.list()
        _check([entry.filename for entry in entries], sum(entry.uncompressed for entry in entries), limit)
        if file.needs_password() or any(not (entry.is_file or entry.is_directory) for entry in entries):
            raise RefusedError("it is encrypted, or contains links or devices")
        file.extractall(folder)


def _extract_zip(path: Path, folder: Path, limit: int) -> None:
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
        _check([entry.filename for entry in entries], sum(entry.file_size for entry in entries), limit)
        for entry in entries:
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise RefusedError(f"it contains the unsafe entry {printable(entry.filename)!r}, a link")
            if entry.flag_bits & 0x1 or entry.compress_type not in METHODS:
                raise RefusedError(f"it contains {entry.filename!r}, which is encrypted or of an unknown compression")
        file.extractall(folder)


def _extract_tar(path: Path, folder: Path, limit: int) -> None:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with (
            gzip.open(raw) if packed else raw as plain,
            tarfile.open(fileobj=_Bounded(plain, limit), mode="r:") as file,
        ):
            size = 0
            for number, entry in enumerate(file):
                size += entry.size
                if not (entry.isreg() or entry.isdir()) or number >= MAX_ENTRIES:
                    raise RefusedError(
                        f"it contains the unsafe entry {printable(entry.name)!r}, a link or one too many"
                    )
                _check([entry.name], size, limit)
                file.extract(entry, folder, filter="data")


def _check(names: Sequence[str], size: int, limit: int) -> None:
    if len(names) > MAX_ENTRIES:
        raise RefusedError(f"it contains {len(names)} files: at most {MAX_ENTRIES} are unpacked")
    if size > limit:
        raise RefusedError(f"it would unpack to {size} bytes, far more than its own size")
    for name in names:
        inside = PurePosixPath(name.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in name or printable(name) != name:
            raise RefusedError(f"it contains the unsafe entry {printable(name)!r}")
        if inside.suffix.lower() in PICKLES or any(part.startswith("processed") for part in inside.parts):
            raise RefusedError(
                f"it contains the unsafe entry {name!r}: pickles and caches run code when they are opened"
            )
