import hashlib
import io
import tarfile
import tracemalloc
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_server import Server, serving, zip_of

from bixt3d.cli import download
from bixt3d.datasets.download import unpacking
from bixt3d.datasets.download.archives import ARCHIVES, Archive, Fingerprint, how_to_get
from bixt3d.datasets.download.fetch import fetch
from bixt3d.io import fetching
from bixt3d.models.released import fetch_released
from bixt3d.types import InputError


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 10)
    with serving() as server:
        yield server


GOOD = zip_of({"set/list.txt": "a b c\n" * 100, "set/deep/er.txt": "x"})
GOOD_SUM = Fingerprint(f"sha256:{hashlib.sha256(GOOD).hexdigest()}", len(GOOD))


@pytest.fixture
def archive_at(server: Server) -> Callable[..., Archive]:
    def archive(*names: str, known: tuple[Fingerprint, ...] = (GOOD_SUM,), **members: str) -> Archive:
        urls = tuple(map(server.url, names))
        return Archive(
            "set.zip", urls, "below/set", "list.txt", known, {f"{key}.txt": md5 for key, md5 in members.items()}
        )

    return archive


def files_in(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


UNPACKED = ["below/set/deep/er.txt", "below/set/list.txt"]


def test_a_good_archive_is_unpacked_and_nothing_else_stays(server, archive_at, tmp_path):
    server.files["good.zip"] = GOOD
    root = tmp_path / "not/yet/there"
    assert fetch(archive_at("good.zip"), root) == root / "below/set"
    assert files_in(root) == UNPACKED
    assert (root / "below/set/list.txt").read_text() == "a b c\n" * 100


def test_what_is_there_already_is_not_fetched_again(server, archive_at, tmp_path):
    server.files["good.zip"] = GOOD
    fetch(archive_at("good.zip"), tmp_path)
    fetch(archive_at("good.zip"), tmp_path)
    assert len(server.asked) == 1


def test_a_folder_with_other_content_is_left_alone(archive_at, tmp_path):
    (tmp_path / "below/set").mkdir(parents=True)
    with pytest.raises(InputError, match=r"without list.txt: move it away"):
        fetch(archive_at("good.zip"), tmp_path)


def test_a_partial_download_is_resumed(server, archive_at, tmp_path):
    server.files["good.zip"] = GOOD
    (tmp_path / "set.zip.part").write_bytes(GOOD[:50])
    fetch(archive_at("good.zip"), tmp_path)
    assert server.asked == [("good.zip", "bytes=50-")]
    assert files_in(tmp_path) == UNPACKED


def test_a_server_that_ignores_ranges_sends_everything_again(server, archive_at, tmp_path):
    server.files["good.zip"], server.ranges = GOOD, False
    (tmp_path / "set.zip.part").write_bytes(GOOD[:50])
    fetch(archive_at("good.zip"), tmp_path)
    assert files_in(tmp_path) == UNPACKED


def test_a_complete_part_is_used(server, archive_at, tmp_path):
    server.files["good.zip"] = GOOD
    (tmp_path / "set.zip.part").write_bytes(GOOD)
    fetch(archive_at("good.zip"), tmp_path)
    assert server.asked == [("good.zip", f"bytes={len(GOOD)}-")]


@pytest.mark.parametrize("junk", [b"?" * 50, b"?" * 5000])
def test_a_part_with_another_beginning_is_fetched_from_the_first_byte(junk, server, archive_at, tmp_path):
    server.files["good.zip"] = GOOD
    (tmp_path / "set.zip.part").write_bytes(junk)
    fetch(archive_at("good.zip"), tmp_path)
    assert [wanted for _, wanted in server.asked] == [f"bytes={len(junk)}-", None]


def test_a_broken_connection_goes_on_at_the_next_mirror(server, archive_at, tmp_path):
    server.files |= {"first.zip": GOOD, "second.zip": GOOD}
    server.cut = 70
    fetch(archive_at("first.zip", "second.zip"), tmp_path)
    assert server.asked == [("first.zip", None), ("second.zip", "bytes=70-")]


def test_a_broken_connection_keeps_what_came(server, archive_at, tmp_path):
    server.files["good.zip"], server.cut = GOOD, 70
    with pytest.raises(InputError, match=r"set.zip"):
        fetch(archive_at("good.zip"), tmp_path)
    assert (tmp_path / "set.zip.part").read_bytes() == GOOD[:70]


def test_a_missing_file_sends_us_to_the_next_mirror(server, archive_at, tmp_path):
    server.files["second.zip"] = GOOD
    fetch(archive_at("first.zip", "second.zip"), tmp_path)
    assert [name for name, _ in server.asked] == ["first.zip", "second.zip"]


def test_another_file_is_thrown_away_and_the_next_mirror_asked(server, archive_at, tmp_path):
    server.files |= {"other.zip": zip_of({"set/list.txt": "no"}), "good.zip": GOOD}
    fetch(archive_at("other.zip", "good.zip"), tmp_path)
    assert server.asked[1] == ("good.zip", None)


def test_when_all_fail_one_sentence_says_why_and_where_to_put_the_file(server, archive_at, tmp_path):
    server.files["other.zip"] = b"<html>"
    with pytest.raises(InputError) as caught:
        fetch(archive_at("gone.zip", "other.zip"), tmp_path)
    message = str(caught.value)
    assert "gone.zip (HTTP Error 404" in message
    assert "other.zip (its 6 bytes have the checksum sha256:" in message
    assert f"put it at {tmp_path / 'set.zip'}" in message
    assert files_in(tmp_path) == []


def test_a_page_in_place_of_the_archive_is_noticed_without_a_checksum(server, archive_at, tmp_path):
    server.files["page.zip"] = b"<html>"
    with pytest.raises(InputError, match="neither a zip nor a tar"):
        fetch(archive_at("page.zip", known=()), tmp_path)


def test_a_file_put_there_by_hand_needs_no_network_and_stays(server, archive_at, tmp_path):
    (tmp_path / "set.zip").write_bytes(GOOD)
    fetch(archive_at("good.zip"), tmp_path)
    assert server.asked == []
    assert files_in(tmp_path) == [*UNPACKED, "set.zip"]


def test_a_wrong_file_put_there_by_hand_is_named(archive_at, tmp_path):
    (tmp_path / "set.zip").write_bytes(GOOD[:-1])
    with pytest.raises(InputError, match=r"set.zip is not the file to use"):
        fetch(archive_at("good.zip"), tmp_path)


def with_link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        link = zipfile.ZipInfo("set/link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "evil",
    [
        zip_of({"set/list.txt": "", "../evil.txt": "!"}),
        zip_of({"set/list.txt": "", "set/..\\..\\evil.txt": "!"}),
        zip_of({"set/list.txt": "", "/tmp/evil.txt": "!"}),
        zip_of({"set/list.txt": "", "C:/evil.txt": "!"}),
        with_link(),
    ],
)
def test_entries_that_leave_the_folder_are_refused_and_nothing_is_written(evil, server, archive_at, tmp_path):
    server.files["evil.zip"] = evil
    with pytest.raises(InputError, match="unsafe entry"):
        fetch(archive_at("evil.zip", known=()), tmp_path / "root")
    assert files_in(tmp_path) == []


def tar_of(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            file.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_a_tar_without_a_folder_of_its_own_is_unpacked_too(server, archive_at, tmp_path):
    server.files["good.tar.gz"] = tar_of({"list.txt": "", "deep/er.txt": ""})
    fetch(archive_at("good.tar.gz", known=()), tmp_path)
    assert files_in(tmp_path) == [*UNPACKED, "set.zip.sha256"]


def test_a_tar_that_leaves_the_folder_is_refused(server, archive_at, tmp_path):
    server.files["evil.tar.gz"] = tar_of({"list.txt": "", "../evil.txt": ""})
    with pytest.raises(InputError, match="unsafe entry"):
        fetch(archive_at("evil.tar.gz", known=()), tmp_path / "root")
    assert files_in(tmp_path) == []


def test_a_damaged_member_is_noticed(server, archive_at, tmp_path):
    server.files["bad.zip"] = GOOD.replace(b"a b c\na b c", b"a b c\na b d", 1)
    with pytest.raises(InputError, match="damaged or unsafe"):
        fetch(archive_at("bad.zip", known=()), tmp_path)
    assert files_in(tmp_path) == []


def test_members_with_their_published_sums_are_accepted(server, archive_at, tmp_path):
    server.files["good.zip"] = GOOD
    assert fetch(archive_at("good.zip", list=hashlib.md5(b"a b c\n" * 100).hexdigest()), tmp_path).is_dir()


def test_a_member_that_differs_from_its_published_sum_is_named(server, archive_at, tmp_path):
    server.files["good.zip"] = GOOD
    with pytest.raises(InputError, match=r"member list.txt"):
        fetch(archive_at("good.zip", list="0" * 32), tmp_path)


def test_a_root_that_cannot_be_written_is_the_users_to_mend(archive_at, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        fetch(archive_at("good.zip"), tmp_path / "file/root")


def test_a_full_disk_is_the_users_to_mend(server, archive_at, tmp_path):
    server.files["good.zip"] = GOOD
    (tmp_path / "set.zip.part").symlink_to("/dev/full")
    with pytest.raises(InputError, match="cannot write .*: No space left on device"):
        fetch(archive_at("good.zip"), tmp_path)


def test_the_command_fetches_or_is_refused_with_a_sentence(server, archive_at, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ARCHIVES, "modelnet40", archive_at("good.zip"))
    with pytest.raises(InputError, match="^could not fetch set.zip"):
        download.main(["modelnet40", "--root", str(tmp_path)])
    server.files["good.zip"] = GOOD
    assert download.main(["modelnet40", "--root", str(tmp_path)]) == tmp_path / "below/set"
    assert f"modelnet40 is ready in {tmp_path / 'below/set'}" in capsys.readouterr().out


def test_every_archive_has_mirrors_and_sums_of_the_right_length():
    assert len(ARCHIVES) == 7
    length = {"md5": 32, "sha256": 64}
    for archive in ARCHIVES.values():
        assert archive.urls and all(url.startswith("http") and url.endswith(archive.file) for url in archive.urls)
        sums = [known.checksum for known in archive.known] + [f"md5:{md5}" for md5 in archive.members.values()]
        assert all(len(digest) == length[algorithm] for algorithm, digest in (text.split(":") for text in sums))


def test_how_to_get_names_command_mirrors_and_place():
    words = how_to_get("modelnet40_meshes", Path("/big/ModelNet/ModelNet40"))
    assert "bixt3d download modelnet40_meshes --root /big`" in words
    assert "http://modelnet.cs.princeton.edu/ModelNet40.zip" in words
    assert "put it at /big/ModelNet40.zip" in words
    assert "the data will be in data/modelnet40_ply_hdf5_2048" in how_to_get("modelnet40", Path("mine"))


def bomb(kind: str) -> bytes:
    """Return an archive of a few hundred kB that would unpack to 80 MB, or that names as much."""
    buffer, zeros = io.BytesIO(), b"\0" * 80_000_000
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.writestr("set/list.txt", zeros)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as file:
        entry = tarfile.TarInfo("set/list.txt")
        entry.size = len(zeros)
        if kind == "pax":
            entry.type, entry.size = tarfile.XHDTYPE, len(zeros)
        file.addfile(entry, io.BytesIO(zeros))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "pax"])
def test_an_archive_does_not_unpack_to_far_more_than_its_own_size(kind, archive_at, tmp_path):
    (tmp_path / "set.zip").write_bytes(bomb(kind))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"set.zip is not the file to use \(it would unpack to"):
        fetch(archive_at(known=()), tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert files_in(tmp_path) == ["set.zip"]


def flagged(bit: int) -> bytes:
    """Return a zip file whose entry has the flag encrypted (0), patched (5) or strongly encrypted (6)."""
    content = bytearray(zip_of({"set/list.txt": "a"}))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1 << bit
    return bytes(content)


def tar_with(kind: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        entry = tarfile.TarInfo("set/list.txt")
        entry.type, entry.linkname = kind, "/etc/passwd"
        file.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(
            zip_of({"set/list.txt": "", f"set/{name}": "x"})
            for name in ("a.pt", "b.PKL", "processed/c.txt", "d\x1b.txt")
        ),
        *(flagged(bit) for bit in (0, 5, 6)),
        *(tar_with(kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)),
        tar_of({"set/list.txt": "a" * 1000})[:-20],
        tar_of({"set/list.txt": "a" * 1000})[:20],
        b"\x1f\x8b no gzip",
        b"PK no zip",
        GOOD[:-30],
    ],
    ids=lambda content: content[:2].hex(),  # the same in all workers: archives contain the time
)
def test_an_archive_that_is_damaged_encrypted_or_contains_pickles_links_or_devices_is_a_sentence(
    content, archive_at, tmp_path
):
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"set.zip is not the file to use \(it ") as caught:
        fetch(archive_at(known=()), tmp_path)
    assert str(caught.value).isprintable()
    assert files_in(tmp_path) == ["set.zip"]


def test_an_archive_of_too_many_files_is_refused(archive_at, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 1)
    for content in (GOOD, tar_of({"list.txt": "", "deep/er.txt": ""})):
        (tmp_path / "set.zip").write_bytes(content)
        with pytest.raises(InputError, match="2 files: at most 1|one too many"):
            fetch(archive_at(known=()), tmp_path)


def test_where_no_checksum_is_published_the_first_is_kept_and_another_file_refused(
    server, archive_at, tmp_path, capsys
):
    server.files["good.zip"] = GOOD
    folder = fetch(archive_at("good.zip", known=()), tmp_path)
    digest = hashlib.sha256(GOOD).hexdigest()
    assert (tmp_path / "set.zip.sha256").read_text() == f"{digest}  set.zip\n"
    assert "no checksum of set.zip is published" in capsys.readouterr().err
    folder.rename(tmp_path / "aside")
    server.files["good.zip"] = zip_of({"set/list.txt": "other"})
    with pytest.raises(InputError, match=r"not that of the first one, which .*set.zip.sha256 keeps"):
        fetch(archive_at("good.zip", known=()), tmp_path)
    server.files["good.zip"] = GOOD
    assert fetch(archive_at("good.zip", known=()), tmp_path) == folder


def test_a_server_that_never_ends_is_left(server, archive_at, tmp_path):
    server.files["good.zip"] = GOOD + b"more"
    with pytest.raises(InputError, match=f"more than {len(GOOD)} bytes came"):
        fetch(archive_at("good.zip"), tmp_path)
    assert files_in(tmp_path) == []


def test_offline_nothing_is_fetched_and_one_sentence_says_where_to_put_the_file(
    server, archive_at, tmp_path, monkeypatch
):
    server.files["good.zip"] = GOOD
    monkeypatch.setitem(ARCHIVES, "modelnet40", archive_at("good.zip"))
    monkeypatch.setenv("BIXT3D_OFFLINE", "0")
    with pytest.raises(InputError) as caught:
        download.main(["modelnet40", "--root", str(tmp_path), "--offline"])
    assert "set.zip would be fetched, but the network is forbidden (--offline, BIXT3D_OFFLINE)" in str(caught.value)
    assert f"put it at {tmp_path / 'set.zip'} and run this again" in str(caught.value)
    with pytest.raises(InputError, match="bixt_ti_l64_p16.zip would be fetched, .* put it at .*bixt_ti_l64_p16.zip"):
        fetch_released("bixt_ti_l64_p16", tmp_path)
    assert server.asked == []
    (tmp_path / "set.zip").write_bytes(GOOD)
    download.main(["modelnet40", "--root", str(tmp_path), "--offline"])  # what is there is used


def test_every_archive_comes_by_https_first_and_by_http_only_with_a_checksum():
    for archive in ARCHIVES.values():
        assert archive.urls[0].startswith("https:")
        assert all(url.startswith("https:") for url in archive.urls) or archive.known


def test_a_redirection_from_https_to_http_is_not_followed():
    request = urllib.request.Request("https://127.0.0.1/set.zip")
    handler = fetching._NoDowngrade()
    with pytest.raises(fetching.LostError, match="led from https to http"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://127.0.0.1/set.zip")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://127.0.0.1/b.zip").host == "127.0.0.1"
