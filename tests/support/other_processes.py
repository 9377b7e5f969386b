"""Another process that works in a folder."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CODE = """
import sys
from pathlib import Path
from bixt3d.engine.folder import lock
with lock(Path(sys.argv[1]), sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def locked_by_another(folder: Path, name: str = "run.json") -> Iterator[None]:
    """Lock the file ``name`` in a folder by another process, as long as the context lasts."""
    command = [sys.executable, "-c", CODE, str(folder), name]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "locked\n"
        yield
    finally:
        other.kill()
        other.communicate()
