"""Malicious files: none takes more memory than its size justifies, blocks, runs code or reads another file."""

import io
import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from bixt3d.datasets.clouds.cache import cached, cached_clouds
from bixt3d.datasets.clouds.mapped import Allocate, Build
from bixt3d.datasets.clouds.modelnet import ModelNetHDF5
from bixt3d.datasets.clouds.reading import read_json, read_lines
from bixt3d.datasets.files.numpy_files import load_arrays
from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.images.reading import read_image
from bixt3d.io.bounds import printable
from bixt3d.io.writing import host_name
from bixt3d.types import InputError

XYZ = np.random.default_rng(0).normal(size=(20, 3))


def refused(action: Callable[[], object]) -> tuple[str, float]:
    """Return the message, and the peak memory in MB that Python and NumPy allocated before it."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            action()
        return str(caught.value), tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def pcd(count: str = "1 1 1", points: str = "WIDTH 20\nHEIGHT 1\n", data: str = "binary", body: bytes = b"") -> bytes:
    head = f"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 8\nTYPE F F F\nCOUNT {count}\n{points}DATA {data}\n"
    return head.encode() + (body or XYZ.astype("<f4").tobytes() * 2)


def npy_header(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def zip_bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xyz.npy", npy_header("(6000000, 3)") + bytes(144_000_000))
    return packed.getvalue()


def gltf(**changed: object) -> bytes:
    """Return a glTF of one triangle with these changes; its buffer is in the file itself."""
    tree = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": 36, "uri": "data:;base64," + "AAAAAAAAAAAAAAAAAACAPwAAAAAAAAAAAAAAAAAAgD8AAAAA"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
    }
    return json.dumps(tree | changed).encode()


LONG_CHAIN = [{"mesh": 0, "children": [place + 1]} for place in range(999)] + [{"mesh": 0}]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.npy", npy_header("(2000000000, 3)"), "cannot be read as NumPy's"),
        ("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "cannot be read as NumPy's"),
        ("a.npz", zip_bomb(), "arrays that need 144000128 bytes of memory"),
        ("a.pcd", pcd(count="1 1 200000000"), "is not a PCD file, or it is damaged"),
        ("a.pcd", pcd(count="1 1 200000000", data="ascii", body=b"1 2 3\n"), "is not a PCD file, or it is damaged"),
        (
            "a.pcd",
            pcd(points="WIDTH 4000000000\nHEIGHT 4000000000\n"),
            "announces 16000000000000000000 points",
        ),
        ("a.pcd", pcd(points="WIDTH -1\nHEIGHT 1\n"), "announces -1 points, but -1 times 1"),
        ("a.pcd", pcd(points="WIDTH 20\nHEIGHT 1\nPOINTS 40\n"), "announces 40 points, but 20 times 1"),
        ("a.pcd", pcd(data="binary_compressed", body=b"\x02\0\0\0\xff\xff\xff\x7f\0a"), "is not a PCD file"),
        ("a.xyz", b"1 " * 100_000, "has a line of more than 100000 characters"),
        ("a.csv", (",".join("1" * 1001) + "\n").encode() * 2, "has 1001 columns, but at most 1000 are read"),
        ("a.csv", b"1,0.5,0.6,0.7\n2,0.8,0.9,1.0\n", "counts its rows in the first column"),
        (
            "a.ply",
            b"ply\nformat ascii 1.0\nelement vertex -3\nproperty float x\nend_header\n",
            "declares a negative size",
        ),
        ("a.gltf", gltf(accessors=[{"componentType": 5126, "count": 400_000_000, "type": "VEC3"}]), "need 9600000000"),
        ("a.gltf", gltf(bufferViews=[{"buffer": 0, "byteLength": 300_000_000}]), "has a buffer that ends after 36"),
        (
            "a.gltf",
            gltf(nodes=[{"mesh": 0}] * 6000, scenes=[{"nodes": list(range(6000))}]),
            "is of more than 5000 pieces",
        ),
        ("a.gltf", gltf(nodes=LONG_CHAIN), "nested in more than 200 levels"),
        ("a.gltf", b"[" * 100_000, "cannot be read"),
        ("a.stl", b"solid a\nendsolid a\n" * 5001, "is of more than 5000 solids"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_declared_sizes_are_checked_against_the_size_of_the_file(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    read_file_once(tmp_path)  # imports are not counted
    said, megabytes = refused(lambda: read_file(tmp_path / name))
    assert sentence in said
    assert megabytes < 50 + 10 * len(content) / 1e6


def read_file_once(folder: Path) -> None:
    """Read a small mesh, so that trimesh is imported."""
    (folder / "small.gltf").write_bytes(gltf())
    assert len(read_file(folder / "small.gltf")[0].xyz) == 10_000


def test_a_small_hdf5_file_is_no_large_set(tmp_path):
    with h5py.File(tmp_path / "fill.h5", "w") as file:
        file.create_dataset("data", (100_000_000, 3), "f8", chunks=(1000, 3), fillvalue=1.0)
    with h5py.File(tmp_path / "chunk.h5", "w") as file:
        file.create_dataset("data", (100, 3), "f8", chunks=(100_000_000, 3), maxshape=(None, 3), compression="gzip")
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file["data"] = XYZ
        for number in range(40):
            file.create_dataset(f"f{number}", (2_000_000,), "u1", chunks=(1000,))
    for name, what in (("fill", "a dataset 'data'"), ("chunk", "chunks in 'data'"), ("many", "datasets")):
        said, megabytes = refused(lambda name=name: read_file(tmp_path / f"{name}.h5"))
        assert f"has {what} that need" in said
        assert megabytes < 10


def test_a_well_compressed_file_is_read(tmp_path):
    points = np.random.default_rng(0).integers(0, 9, (20_000, 3)).astype(float)
    np.savez_compressed(tmp_path / "a.npz", xyz=points)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=points, chunks=(1000, 3), compression="gzip", shuffle=True)
    for name in ("a.npz", "a.h5"):
        assert (tmp_path / name).stat().st_size < points.nbytes / 8
        assert np.array_equal(read_file(tmp_path / name)[0].xyz, points)


# nothing but the file


@pytest.fixture
def secret(tmp_path) -> Path:
    """Points that must not be read through another file."""
    (tmp_path / "secret").mkdir()
    path = tmp_path / "secret/raw.bin"
    path.write_bytes(XYZ.tobytes())
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["data"] = XYZ
    return path


@pytest.mark.parametrize("kind", ["external", "virtual", "link", "soft link"])
def test_an_hdf5_file_reads_no_other_file(tmp_path, secret, kind):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "external":
            file.create_dataset("data", XYZ.shape, "f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(XYZ.shape, "f8")
            layout[...] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "data", XYZ.shape)
            file.create_virtual_dataset("data", layout)
        elif kind == "link":
            file["data"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "data")
        else:
            file["elsewhere"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/")
            file["data"] = h5py.SoftLink("/elsewhere/data")
        file["label"] = np.zeros(20, int)
    for name, text in (("shape_names.txt", "ball\n"), ("train_files.txt", "a.h5\n"), ("test_files.txt", "a.h5\n")):
        (tmp_path / name).write_text(text)
    for read in (lambda: read_file(tmp_path / "a.h5"), lambda: ModelNetHDF5(str(tmp_path)).load()):
        with pytest.raises(InputError, match="only data stored in the file itself is read"):
            read()


@pytest.mark.parametrize(
    "uri", ["../secret/raw.bin", "{secret}", "file://{secret}", "http://127.0.0.1:9/raw.bin", "link"]
)
def test_a_gltf_reads_no_file_outside_its_own_folder(tmp_path, secret, uri):
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh/link").symlink_to(secret)
    mesh = gltf(buffers=[{"byteLength": 36, "uri": uri.format(secret=secret)}])
    (tmp_path / "mesh/a.gltf").write_bytes(mesh)
    with pytest.raises(InputError, match="which is not in its own folder"):
        read_file(tmp_path / "mesh/a.gltf")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b"no JSON "])
def test_a_gltf_is_never_the_model_gltf_beside_it(tmp_path, content):
    (tmp_path / "model.gltf").write_bytes(gltf(accessors=[], meshes=[], nodes=[]))
    (tmp_path / "a.gltf").write_bytes(content + gltf())
    if content == b"no JSON ":
        with pytest.raises(InputError, match="a.gltf cannot be read"):
            read_file(tmp_path / "a.gltf")
    else:
        assert len(read_file(tmp_path / "a.gltf")[0].xyz) == 10_000


def test_records_and_words_in_an_array_are_a_sentence(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3, [("x", "f4"), ("y", "f4")]))
    np.savez(tmp_path / "b.npz", xyz=np.array(["a", "b"]))
    np.savez(tmp_path / "c.npz", xyz=XYZ, name=np.array(["a", "b"]))
    for name, fault in (("a.npy", "has no columns x, y, z"), ("b.npz", "contains no numbers, but ")):
        with pytest.raises(InputError, match=f"{name} {fault}"):
            read_file(tmp_path / name)
    assert np.array_equal(read_file(tmp_path / "c.npz")[0].xyz, XYZ)


def test_a_gltf_reads_the_buffers_beside_it(tmp_path):
    (tmp_path / "my triangle.bin").write_bytes(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes())
    for uri in ("my triangle.bin", "my%20triangle.bin"):
        (tmp_path / "a.gltf").write_bytes(gltf(buffers=[{"byteLength": 36, "uri": uri}]))
        assert read_file(tmp_path / "a.gltf")[0].xyz.max() <= 1
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.gltf").write_bytes(gltf(buffers=[{"byteLength": 36, "uri": "pipe"}]))
    with pytest.raises(InputError, match="a pipe or a device"):
        read_file(tmp_path / "a.gltf")


@pytest.mark.parametrize("read", [read_image, read_lines, read_json, load_arrays])
def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match="a pipe or a device|cannot be read: Is a directory"):
            read(path)
    with pytest.raises(InputError, match="is missing"):
        read(tmp_path / "nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / ("x" * 5000))


POINTS = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)


def clouds_in(path: Path) -> tuple[Tensor, Tensor]:
    return cached_clouds(path, lambda: POINTS, POINTS.shape[:2])


def build_of(tensors: dict[str, Tensor]) -> Build:
    def build(allocate: Allocate) -> None:
        made = allocate({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()})
        for name, tensor in tensors.items():
            made[name].copy_(tensor)

    return build


def written(path: Path) -> bytes:
    """Return the content of a valid cache."""
    clouds_in(path)
    return path.read_bytes()


def cache_of(path: Path, **tensors: Tensor) -> bytes:
    """Return the content of a cache of these tensors with a matching checksum, as an attacker writes it."""
    cached(path, build_of(tensors), lambda _: False)
    return path.read_bytes()


ONES = torch.ones(2, 3, 3)
CACHES: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "a long header": lambda _: (10**8).to_bytes(8, "little") + b" " * 20_000,
    "a header beyond the end": lambda _: (9_000).to_bytes(8, "little") + b"{",
    "a header that is no JSON": lambda _: (8).to_bytes(8, "little") + b"{}{}{}{}",
    "no tensors": lambda _: (2).to_bytes(8, "little") + b"{}",
    "a pickle": lambda _: pickle.dumps({"xyz": [1]}),
    "cut off": lambda path: written(path)[:-1],
    "something behind the end": lambda path: written(path) + b"\0",
    "another byte": lambda path: written(path)[:-1] + b"\x7f",
    "another name": lambda path: written(path).replace(b'"xyz"', b'"abc"'),
    "another checksum": lambda path: written(path).replace(b'"checksum"', b'"Checksum"'),
    "NaN": lambda path: cache_of(path, xyz=torch.nan * ONES, normal=ONES),
    "infinity": lambda path: cache_of(path, xyz=ONES, normal=-torch.inf * ONES),
    "fewer clouds": lambda path: cache_of(path, xyz=torch.ones(1, 3, 3), normal=ONES),
    "no clouds": lambda path: cache_of(path, xyz=torch.ones(0, 3, 3), normal=ONES),
    "another type": lambda path: cache_of(path, xyz=ONES.double(), normal=ONES),
    "no normals": lambda path: cache_of(path, xyz=ONES),
    "no axes": lambda path: cache_of(path, xyz=torch.tensor(1.0), normal=ONES),
}


@pytest.mark.parametrize("kind", [*CACHES, "a pipe"])
def test_a_cache_that_is_damaged_or_does_not_fit_is_made_anew(tmp_path, kind):
    path = tmp_path / "a.safetensors"
    if kind == "a pipe":
        os.mkfifo(path)
    else:
        content = CACHES[kind](tmp_path / "b.safetensors")
        path.write_bytes(content)
    for _ in range(2):
        xyz, normal = clouds_in(path)
        assert np.array_equal(xyz, POINTS[..., :3])
        assert np.allclose(normal.norm(dim=2), 1)
    assert path.read_bytes() == written(tmp_path / "c.safetensors")


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs Linux")
def test_the_processes_of_a_machine_share_one_copy_of_a_cache_and_each_keeps_its_own_changes(tmp_path):
    path = tmp_path / "a.safetensors"
    content, (xyz, _) = written(path), clouds_in(path)
    kinds = [line for line in Path("/proc/self/smaps").read_text().split("VmFlags")]
    (mapped,) = (kind for kind in kinds if str(path) in kind and f"{xyz.data_ptr() // 4096 * 4096:x}-" in kind)
    assert "Anonymous:             0 kB" in mapped  # no page of it is this process's own
    xyz.zero_()
    assert path.read_bytes() == content and clouds_in(path)[0].any()


def test_a_cache_of_an_earlier_version_is_made_anew_and_reported(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", points=POINTS)
    for said in (f"{tmp_path}/a.npz is a cache of an earlier version, which is no longer read: delete it\n", ""):
        assert np.array_equal(clouds_in(tmp_path / "a.safetensors")[0], POINTS[..., :3])
        assert capsys.readouterr().err == said


def test_a_cache_is_readable_by_others_as_every_other_file_is(tmp_path):
    written(tmp_path / "a.safetensors")
    (tmp_path / "b").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_cache_that_does_not_fit_on_the_disk_is_a_sentence(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(InputError, match=r"could not write .*a.safetensors: .*; choose another"):
            clouds_in(tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_reaches_the_disk_and_what_a_killed_program_left_of_it_is_removed(tmp_path, monkeypatch):
    synced, sync = [], os.fsync
    monkeypatch.setattr("bixt3d.io.writing.os.fsync", lambda handle: (synced.append(handle), sync(handle)))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path, other = (tmp_path / f"{name}.safetensors" for name in "ab")
    left, kept = (each.with_name(f".{each.name}.{host_name()}.{dead.pid}.tmp") for each in (path, other))
    for temporary in (left, kept):
        temporary.write_text("half")
    clouds_in(path)
    assert sorted(tmp_path.iterdir()) == [kept, path] and len(synced) == 2  # the file and its folder


# names


@pytest.mark.parametrize("name", ["\x1b[2Jball", "ba\x07ll", "ball\u202e", "ba\x9bll", "b" * 201])
def test_names_with_control_characters_are_refused(tmp_path, name):
    (tmp_path / "shape_names.txt").write_text(f"box\n{name}\n")
    with pytest.raises(InputError, match="a name has 1 to 200 characters that can be printed") as caught:
        read_lines(tmp_path / "shape_names.txt")
    assert str(caught.value).isprintable()


def test_control_characters_in_the_name_of_a_file_are_escaped(tmp_path):
    path = tmp_path / "\x1b[2J.xyz"
    path.write_text("1 2 3\n2 3 4\n")
    assert read_file(path)[0].name == "\\x1b[2J.xyz"
    path.write_text("1 2 3\n")
    with pytest.raises(InputError, match=r"\\x1b\[2J.xyz has 1 point") as caught:
        read_file(path)
    assert str(caught.value).isprintable()
    assert printable("naïve 点 \U0001f600 a\u00a0b") == "naïve 点 \U0001f600 a\u00a0b"


@pytest.mark.parametrize("encoding", ["gbk", "latin-1"])
def test_a_list_in_an_encoding_that_nothing_shows_is_a_sentence(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(("stühle\n" if encoding == "latin-1" else "椅子\n").encode(encoding))
    with pytest.raises(InputError, match="a.txt is not text in UTF-8: save it as UTF-8"):
        read_lines(tmp_path / "a.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_list_in_unicode_is_read_with_and_without_a_mark(tmp_path, encoding, ending):
    words = ["ball", "椅子", "stühle", "box with lid"]
    mark = "\ufeff" if encoding.endswith("be") else ""
    (tmp_path / "a.txt").write_bytes((mark + ending.join(words) + ending).encode(encoding))
    assert read_lines(tmp_path / "a.txt") == words


def test_a_list_names_each_thing_once(tmp_path):
    (tmp_path / "a.txt").write_text("box\nball\nbox\n")
    with pytest.raises(InputError, match="a.txt lists 'box' 2 times"):
        read_lines(tmp_path / "a.txt")


@pytest.mark.parametrize("text", ["[" * 100_000, '"\\ud800', "1" * 5000, "{]"])
def test_json_that_is_deep_huge_or_broken_is_a_sentence(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="a.json cannot be read as JSON") as caught:
        read_json(tmp_path / "a.json")
    assert len(str(caught.value)) < 400
