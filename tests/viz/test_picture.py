import pytest

from bixt3d.io.writing import replace_file


def test_a_file_that_cannot_be_replaced_leaves_nothing_half_written(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError):
        replace_file(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    def parts():
        yield b"n"
        raise OSError("disk full")

    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        replace_file(path, parts())
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
