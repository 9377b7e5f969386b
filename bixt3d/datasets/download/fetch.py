"""Download of a public data set: mirrors in order, resumed, checksum verified, unpacked whole or not at all."""

import http.client
import tempfile
from pathlib import Path

from bixt3d.datasets.download.archives import Archive
from bixt3d.datasets.download.unpacking import extract
from bixt3d.errors import InputError
from bixt3d.io.bounds import open_plain, printable, shortened
from bixt3d.io.fetching import LostError, RefusedError, check_first, digest_of, download, keep_first, writing
from bixt3d.io.offline import check_online

MAX_BYTES = 4 << 30
"""Largest download, unless the size of the archive is known."""


def fetch(archive: Archive, root: Path) -> Path:
    """Download and unpack an archive below ``root``; return its folder, which is not changed if it is there already.

    An archive put in ``root`` by hand is used without the network. A partial download (``.part``) is resumed.
    Raises InputError if no mirror has an accepted file, it cannot be written, or the network is forbidden (--offline).
    """
    folder, by_hand, part = root / archive.folder, root / archive.file, root / f"{archive.file}.part"
    if is_there(folder, archive.contains):
        return folder
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    if by_hand.exists():
        open_plain(by_hand).close()
        try:
            return _unpack(_verify(by_hand, archive), archive, root)
        except RefusedError as refusal:
            raise InputError(f"{by_hand} is not the file to use ({refusal}): delete it or fetch it again") from None
    check_online(archive.file, f"fetch {' or '.join(archive.urls)} elsewhere, put it at {by_hand} and run this again")
    failures = []
    for url in archive.urls:
        try:
            return _fetch_from(url, archive, root, part)
        except (RefusedError, LostError, OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, InputError):
                raise
            failures.append(f"{url} ({shortened(printable(error), 300)})")
    raise InputError(
        f"could not fetch {archive.file} from {'; '.join(failures)}: "
        f"fetch it by hand, put it at {by_hand} and run this again"
    )


def is_there(folder: Path, contains: str) -> bool:
    """Return whether the folder of a data set exists. Raises InputError if it does, but without ``contains``."""
    if folder.exists() and not (folder / contains).exists():
        raise InputError(f"{folder} exists, but without {contains}: move it away and run this again")
    return folder.exists()


def _fetch_from(url: str, archive: Archive, root: Path, part: Path) -> Path:
    most = max((good.size or MAX_BYTES for good in archive.known), default=MAX_BYTES)
    while True:
        resumed = part.exists()
        try:
            download(url, part, most)
            folder = _unpack(_verify(part, archive), archive, root)
        except RefusedError:
            part.unlink()
            if not resumed:
                raise
            continue  # the first part may be of another file: download it again from the first byte
        part.unlink()
        return folder


def _verify(path: Path, archive: Archive) -> Path:
    """Return ``path`` if its checksum is known or, if none is published, if it is an archive. Raises RefusedError."""
    size = path.stat().st_size
    digests = {algorithm: digest_of(path, algorithm) for algorithm in {k.checksum.split(":")[0] for k in archive.known}}
    good = [k for k in archive.known if k.checksum in digests.values() and k.size in (None, size)]
    if archive.known and not good:
        raise RefusedError(f"its {size} bytes have the checksum {', '.join(digests.values())}, not a known one")
    _check_first(path, archive)
    return path


def _check_first(path: Path, archive: Archive) -> None:
    """Raise RefusedError for a file that is not an archive, or not the same as the first download."""
    with path.open("rb") as file:
        if file.read(2) not in (b"PK", b"7z", b"\x1f\x8b") and not _is_tar(path):
            raise RefusedError("it is neither a zip nor a tar file, nor a 7z archive")
    check_first(path, _first_checksum(archive, path.parent))


def _first_checksum(archive: Archive, root: Path) -> Path:
    return root / f"{archive.file}.sha256"


def _keep_first(path: Path, archive: Archive) -> None:
    """Keep the checksum of the first download if none is published: later ones must match it."""
    kept = _first_checksum(archive, path.parent)
    if not (archive.known or archive.members):
        keep_first(path, kept, archive.file)


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512)[257:262] == b"ustar"


def _unpack(path: Path, archive: Archive, root: Path) -> Path:
    """Unpack beside the folder, then rename, so that the folder is complete or missing."""
    folder = root / archive.folder
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
            unpacked = Path(temporary) / "files"
            unpacked.mkdir()
            extract(path, unpacked)
            within = [unpacked, *sorted(unpacked.glob("*")), *sorted(unpacked.glob("*/*"))]
            content = next((place for place in within if (place / archive.contains).exists()), None)
            if content is None:
                raise RefusedError(f"it does not contain {archive.contains}")
            for member, md5 in archive.members.items():
                if not (content / member).is_file() or digest_of(content / member, "md5") != f"md5:{md5}":
                    raise RefusedError(f"its member {member} is missing or differs from the published one")
            _keep_first(path, archive)
            content.rename(folder)
    return folder
