"""Files from the network: resumed, no larger than expected, never by a less safe way, the same as the first time."""

import hashlib
import http
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bixt3d.errors import InputError
from bixt3d.io.bounds import without_waiting

CHUNK = 1 << 20
TIMEOUT_SECONDS = 30


class RefusedError(Exception):
    """The file is there, but it is not the one to use."""


class LostError(Exception):
    """The connection broke; its own class, for an OSError while a file is written means the disk."""


class _NeverLessSafe(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise LostError("led from https to http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, part: Path, most: int) -> None:
    """Fetch a file, or what is missing of a part of it. Raises RefusedError if more than ``most`` bytes come."""
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "bixt3d", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={offset}-"} if offset else {}))
    try:
        response = urllib.request.build_opener(_NeverLessSafe).open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is left to send: the checksum decides whether the part is the file
            raise
    with response:
        offset = offset if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length and length.isdecimal() else None
        progress = tqdm(total=total, initial=offset, unit="B", unit_scale=True, desc=part.stem)
        with writing(part), progress, open(part, "ab" if offset else "wb", opener=without_waiting) as file:
            for chunk in _chunks(response):
                if file.tell() + len(chunk) > most:
                    raise RefusedError(f"more than {most} bytes came")
                file.write(chunk)
                progress.update(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise LostError(f"closed after {part.stat().st_size} of {total} bytes")


def _chunks(response: Any) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise LostError(error or "the connection broke") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def digest_of(path: Path, algorithm: str) -> str:
    """Return ``algorithm:digits`` of a file."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def check_first(path: Path, kept: Path) -> None:
    """Raise RefusedError for a file that is not the one whose checksum is kept."""
    if kept.is_file() and kept.read_bytes()[:64].decode(errors="replace") != (found := digest_of(path, "sha256")[7:]):
        raise RefusedError(f"its sha256 is {found}, not that of the first one, which {kept} keeps")


def keep_first(path: Path, kept: Path, name: str) -> None:
    """Keep the checksum of a file of which nobody published one: any other is refused from then on."""
    if not kept.is_file():
        print(f"nobody published a checksum of {name}: that of this one is kept in {kept}", file=sys.stderr)
        kept.write_text(f"{digest_of(path, 'sha256')[7:]}  {name}\n")
