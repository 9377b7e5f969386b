"""Fetch a public data set: mirrors in order, resumed, verified, unpacked whole or not at all.

python -m bixt3d.datasets.download modelnet40
"""

import argparse
import gzip
import hashlib
import http
import http.client
import stat
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from bixt3d.datasets.archives import ARCHIVES, Archive
from bixt3d.types import InputError

CHUNK = 1 << 20
TIMEOUT_SECONDS = 30


class _RefusedError(Exception):
    """The file arrived, but it is not the one to use."""


class _LostError(Exception):
    """The connection broke; its own class, for an OSError while a file is written means the disk."""


def fetch(archive: Archive, root: Path) -> Path:
    """Bring the archive's folder below ``root`` and return it; what is already there is left alone.

    An archive put in ``root`` by hand is used without the network. A partial download (``.part``) is resumed.
    Raises InputError if no mirror gives a good file or the disk refuses it.
    """
    folder, by_hand, part = root / archive.folder, root / archive.file, root / f"{archive.file}.part"
    if folder.exists():
        if not (folder / archive.holds).exists():
            raise InputError(f"{folder} is there without {archive.holds}: move it away and run this again")
        return folder
    with _disk(root):
        root.mkdir(parents=True, exist_ok=True)
    if by_hand.exists():
        try:
            return _unpack(_verify(by_hand, archive), archive, root)
        except _RefusedError as refusal:
            raise InputError(f"{by_hand} is not the file to use ({refusal}): delete it or fetch it again") from None
    failures = []
    for url in archive.urls:
        try:
            return _fetch_from(url, archive, root, part)
        except (_RefusedError, _LostError, OSError, http.client.HTTPException) as error:
            failures.append(f"{url} ({error})")
    raise InputError(
        f"could not fetch {archive.file} from {'; '.join(failures)}: "
        f"fetch it by hand, put it at {by_hand} and run this again"
    )


def _fetch_from(url: str, archive: Archive, root: Path, part: Path) -> Path:
    while True:
        resumed = part.exists()
        _download(url, part)
        try:
            folder = _unpack(_verify(part, archive), archive, root)
        except _RefusedError:
            part.unlink()
            if not resumed:
                raise
            continue  # the beginning may have come from somewhere else: once more, from the first byte
        part.unlink()
        return folder


def _download(url: str, part: Path) -> None:
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "bixt3d", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={offset}-"} if offset else {}))
    try:
        response = urllib.request.build_opener().open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is left to send: the checksum decides whether the part is the file
            raise
    with response:
        offset = offset if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length else None
        progress = tqdm(total=total, initial=offset, unit="B", unit_scale=True, desc=part.stem)
        with _disk(part), progress, part.open("ab" if offset else "wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                progress.update(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise _LostError(f"closed after {part.stat().st_size} of {total} bytes")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _LostError(error or "the connection broke") from error


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _verify(path: Path, archive: Archive) -> Path:
    """Return ``path`` if it is one of the known files, or where none is known, if it is an archive at all."""
    size = path.stat().st_size
    digests = {algorithm: _digest(path, algorithm) for algorithm in {k.checksum.split(":")[0] for k in archive.known}}
    good = [k for k in archive.known if k.checksum in digests.values() and k.size in (None, size)]
    if archive.known and not good:
        raise _RefusedError(f"its {size} bytes have the checksum {', '.join(digests.values())}, not a known one")
    if not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        raise _RefusedError("it is neither a zip nor a tar file")
    return path


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def _unpack(path: Path, archive: Archive, root: Path) -> Path:
    """Unpack next to the folder and move it there in one step, so that nobody sees half of it."""
    folder = root / archive.folder
    with _disk(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
            unpacked = Path(temporary) / "files"
            unpacked.mkdir()
            _extract(path, unpacked)
            tops = [entry for entry in unpacked.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
            content = tops[0] if len(tops) == 1 and tops[0].is_dir() else unpacked
            if not (content / archive.holds).exists():
                raise _RefusedError(f"it does not hold {archive.holds}")
            for member, md5 in archive.members.items():
                if not (content / member).is_file() or _digest(content / member, "md5") != f"md5:{md5}":
                    raise _RefusedError(f"its member {member} is missing or differs from the published one")
            content.rename(folder)
    return folder


def _extract(path: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                for entry in file.infolist():
                    _refuse_unsafe(entry)
                file.extractall(folder)
        else:
            with tarfile.open(path) as file:
                file.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _RefusedError(f"it is damaged or unsafe: {error}") from error


def _refuse_unsafe(entry: zipfile.ZipInfo) -> None:
    inside = PurePosixPath(entry.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if inside.is_absolute() or ".." in inside.parts or ":" in inside.as_posix() or is_link:
        raise _RefusedError(f"it holds the unsafe entry {entry.filename!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch the named archive and return the exit code: 0, or 2 with one sentence on what to do."""
    parser = argparse.ArgumentParser(prog="python -m bixt3d.datasets.download", description="Fetch a public data set.")
    parser.add_argument("name", choices=ARCHIVES, help="which data set")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder it goes below (default: data)")
    args = parser.parse_args(argv)
    try:
        folder = fetch(ARCHIVES[args.name], args.root)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.name} is ready in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
