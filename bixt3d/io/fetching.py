"""Downloads over HTTP: resumed, bounded in size, never from https to http, checked against the first download."""

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

from bixt3d.errors import InputError
from bixt3d.io.bounds import without_waiting
from bixt3d.io.progress import progress

CHUNK = 1 << 20
TIMEOUT_SECONDS = 30


class RefusedError(Exception):
    """The file is not the expected one; the message is the reason."""


class LostError(Exception):
    """The connection broke. Not an OSError, which means a disk error while a file is written."""


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise LostError("led from https to http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, part: Path, most: int) -> None:
    """Download a file to ``part``, resuming a partial download.

    Raises RefusedError above ``most`` bytes, LostError if the connection breaks, OSError or HTTPException if there is
    none, InputError if the file cannot be written.
    """
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "bixt3d", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={offset}-"} if offset else {}))
    try:
        response = urllib.request.build_opener(_NoDowngrade).open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is left to send: the checksum decides whether the part is the file
            raise
    with response:
        offset = offset if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length and length.isdecimal() else None
        bar = progress(total=total, initial=offset, unit="B", unit_scale=True, desc=part.stem)
        with writing(part), bar, open(part, "ab" if offset else "wb", opener=without_waiting) as file:
            for chunk in _chunks(response):
                if file.tell() + len(chunk) > most:
                    raise RefusedError(f"more than {most} bytes came")
                file.write(chunk)
                bar.update(len(chunk))
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
    """Turn an OSError into an InputError about writing ``path``."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def digest_of(path: Path, algorithm: str) -> str:
    """Return the checksum of a file as ``algorithm:digits``."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def check_first(path: Path, kept: Path) -> None:
    """Raise RefusedError if a checksum was kept in the file ``kept`` and that of ``path`` is another."""
    if kept.is_file() and kept.read_bytes()[:64].decode(errors="replace") != (found := digest_of(path, "sha256")[7:]):
        raise RefusedError(f"its sha256 is {found}, not that of the first one, which {kept} keeps")


def keep_first(path: Path, kept: Path, name: str) -> None:
    """Keep the checksum of the first download of a file without a published one: later ones must match it."""
    if not kept.is_file():
        print(f"no checksum of {name} is published: that of this file is kept in {kept}", file=sys.stderr)
        kept.write_text(f"{digest_of(path, 'sha256')[7:]}  {name}\n")
