"""A local HTTP server for tests of downloads."""

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves the files in ``files``, by default with Range; ``cut`` breaks the connection once, after so many bytes."""

    files: dict[str, bytes]
    asked: list[tuple[str, str | None]]
    ranges: bool = True
    cut: int | None = None

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # noqa: N802 (the standard library's name)
        wanted, name = self.headers.get("Range"), self.path.lstrip("/")
        self.server.asked.append((name, wanted))
        if name not in self.server.files:
            return self.send_error(404)
        content, offset = self.server.files[name], 0
        if wanted and self.server.ranges:
            offset = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if offset >= len(content):
                return self.send_error(416)
        self.send_response(206 if offset else 200)
        self.send_header("Content-Length", str(len(content) - offset))
        self.end_headers()
        end, self.server.cut = self.server.cut, None
        self.wfile.write(content[offset:end])

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """Yield a running server."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked = {}, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def zip_of(members: dict[str, str]) -> bytes:
    """Return the bytes of a zip file of these texts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return buffer.getvalue()
