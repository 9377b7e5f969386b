"""Machines without Open3D, for real: modules of its name that cannot be imported, as seen by other processes too."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bixt3d.viz import scene


@pytest.fixture(autouse=True)
def drawn_by_matplotlib():
    """Let Open3D draw where it is: these are the tests of what it does."""


@pytest.fixture
def broken_open3d(tmp_path_factory, monkeypatch) -> Iterator[Callable[[str], None]]:
    """Return a function that puts a module open3d of these lines before the true one, for this test."""

    decide = scene.renderer  # which a test may replace

    def break_it(lines: str) -> None:
        folder: Path = tmp_path_factory.mktemp("stub")
        (folder / "open3d.py").write_text(lines)
        monkeypatch.syspath_prepend(folder)
        decide.cache_clear()

    yield break_it
    decide.cache_clear()


@pytest.fixture
def without_open3d(broken_open3d) -> None:
    """Draw with matplotlib in this test, as a machine without Open3D's libraries does."""
    broken_open3d("raise OSError('libGL.so.1: cannot open shared object file: No such file or directory')")
