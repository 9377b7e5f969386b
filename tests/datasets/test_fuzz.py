"""Damaged files of every kind: each is read, or refused in one sentence; no other exception ever."""

import base64
import io
import json
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable

import h5py
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from bixt3d.datasets.clouds.meshes import ModelNetMeshes
from bixt3d.datasets.clouds.modelnet import ModelNetHDF5, ModelNetNormals
from bixt3d.datasets.clouds.part_hdf5 import PartHDF5
from bixt3d.datasets.clouds.shapenetpart import ShapeNetPart
from bixt3d.datasets.download.archives import Archive
from bixt3d.datasets.download.fetch import fetch
from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.images.folder import ImageFolder
from bixt3d.datasets.images.sceneparse import SceneParse
from bixt3d.types import CloudSet, InputError

TIMES = 8
"""Number of damaged versions of each file."""

RNG = np.random.default_rng(0)
CLOUDS = RNG.normal(size=(4, 16, 3))
NORMALS = CLOUDS / np.linalg.norm(CLOUDS, axis=2, keepdims=True)
NUMBERS = [b"", b"0", b"-1", b"0.5", b"65536", b"2147483648", b"99999999999", b"1e308", b"nan", b"inf", b"a", b"\xff"]
WORDS = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80"]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the content with one to three changes: a byte or word, a number in text, a piece lost, doubled or cut."""
    raw = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(raw) if rng.random() < 0.5 else min(len(raw), 150))) if raw else 0
        numbers = list(re.finditer(rb"-?\d+(\.\d+)?", raw))[: 40 if rng.random() < 0.5 else None]
        match rng.integers(6):
            case 0:
                raw[place : place + 1] = bytes([rng.integers(256)])
            case 1:
                raw[place : place + 4] = WORDS[rng.integers(len(WORDS))]
            case 2:
                del raw[place : None if rng.random() < 0.3 else place + rng.integers(1, 20)]
            case 3:
                raw[place:place] = raw[place : place + rng.integers(1, 100)]
            case _ if numbers:
                start, end = numbers[rng.integers(len(numbers))].span()
                raw[start:end] = NUMBERS[rng.integers(len(NUMBERS))]
    return bytes(raw)


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def rows(*columns: np.ndarray, delimiter: str = " ") -> bytes:
    return written(lambda file: np.savetxt(file, np.hstack(columns), "%.5g", delimiter))


def hdf5(**arrays: np.ndarray) -> bytes:
    def write(file: io.BytesIO) -> None:
        with h5py.File(file, "w") as held:
            for name, array in arrays.items():
                held.create_dataset(name, data=array, chunks=array.shape, compression="gzip")

    return written(write)


def image(mode: str, form: str) -> bytes:
    pixels = RNG.integers(0, 3, (6, 8, 3) if mode == "RGB" else (6, 8), np.uint8)
    return written(lambda file: Image.fromarray(pixels).save(file, form))


def pcd(data: str, body: bytes) -> bytes:
    head = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 16\nHEIGHT 1\nPOINTS 16\n"
    return f"{head}DATA {data}\n".encode() + body


def lzf(content: bytes) -> bytes:
    packed = b"".join(bytes([len(content[i : i + 32]) - 1]) + content[i : i + 32] for i in range(0, len(content), 32))
    return struct.pack("<II", len(packed), len(content)) + packed


BOX = trimesh.creation.box((1.0, 2.0, 3.0))
XYZ, COLUMNS = CLOUDS[0], np.ascontiguousarray(CLOUDS[0].T).astype("<f4").tobytes()


def gltf() -> bytes:
    files = trimesh.Scene(BOX).export(file_type="gltf")
    tree = json.loads(files["model.gltf"])
    for buffer in tree["buffers"]:
        buffer["uri"] = "data:;base64," + base64.b64encode(files[buffer["uri"]]).decode()
    return json.dumps(tree).encode()


FILES = {
    "a.npy": written(lambda file: np.save(file, XYZ)),
    "a.npz": written(lambda file: np.savez_compressed(file, xyz=XYZ, normals=NORMALS[0], name="chair")),
    "a.h5": hdf5(data=XYZ, normal=NORMALS[0], rgb=np.ones((16, 3), np.uint8)),
    "a.xyz": rows(XYZ),
    "a.csv": b"x,y,z,nx,ny,nz\n" + rows(XYZ, NORMALS[0], delimiter=","),
    "a.pts": b"16\n" + rows(XYZ),
    "ascii.pcd": pcd("ascii", rows(XYZ)),
    "binary.pcd": pcd("binary", XYZ.astype("<f4").tobytes()),
    "packed.pcd": pcd("binary_compressed", lzf(COLUMNS)),
    "ascii.ply": BOX.export(file_type="ply", encoding="ascii"),
    "cloud.ply": trimesh.PointCloud(XYZ).export(file_type="ply"),
    "a.ply": BOX.export(file_type="ply"),
    "a.obj": BOX.export(file_type="obj").encode(),
    "a.off": BOX.export(file_type="off").encode(),
    "a.stl": BOX.export(file_type="stl"),
    "ascii.stl": BOX.export(file_type="stl_ascii").encode(),
    "a.glb": BOX.export(file_type="glb"),
    "a.gltf": gltf(),
}


try:
    from las_files import las_bytes, make_las

    FILES |= {
        "a.las": las_bytes(make_las(3)),
        "a.laz": las_bytes(make_las(2), True),
        "b.laz": las_bytes(make_las(7), True),
    }
except ModuleNotFoundError as error:  # the extra lidar
    print(f"not tested: LAS, as {error}")


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_or_refused(tmp_path, name):
    path, rng, refusals = tmp_path / name, np.random.default_rng(0), 0
    path.write_bytes(FILES[name])
    assert len(read_file(path, 100)[0].xyz) > 1
    for _ in range(TIMES):
        path.write_bytes(damaged(FILES[name], rng))
        try:
            for cloud in read_file(path, 100):
                assert np.isfinite(cloud.xyz).all()
        except InputError as error:
            refusals += 1
            assert str(error).isprintable() and len(str(error)) < 1000
    assert refusals


PARTS = np.arange(16) % 2 + 2 * (np.arange(4) % 2)[:, None]
HDF5 = {"data": CLOUDS, "normal": NORMALS, "label": np.arange(4) % 2, "pid": PARTS}
TETRAHEDRON = b"OFF\n4 4 0\n0 0 0\n2 0 0\n0 2 0\n0 0 2\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
SETS: dict[str, tuple[Callable[[str], object], dict[str, bytes]]] = {
    "ModelNetHDF5": (
        lambda root: ModelNetHDF5(root, 16, "normal").load(),
        {
            "a.h5": hdf5(**HDF5),
            "shape_names.txt": b"ball\nbox\n",
            "train_files.txt": b"a.h5\n",
            "test_files.txt": b"a.h5\n",
        },
    ),
    "PartHDF5": (
        lambda root: PartHDF5(root, 16, "normal").load(),
        {
            "train.h5": hdf5(**HDF5),
            "test.h5": hdf5(**HDF5),
            "seg_classes.json": b'{"Cup": [0, 1], "Table": [2, 3]}',
            "part_names.json": b'["a", "b", "c", "d"]',
        },
    ),
    "ModelNetNormals": (
        lambda root: ModelNetNormals(root, 16, "normal", stored_points=16).load(),
        {
            "modelnet40_shape_names.txt": b"ball\n",
            "modelnet40_train.txt": b"ball_1\n",
            "modelnet40_test.txt": b"ball_1\n",
            "ball/ball_1.txt": rows(XYZ, NORMALS[0], delimiter=","),
        },
    ),
    "ShapeNetPart": (
        lambda root: ShapeNetPart(root, 16, "normal", stored_points=16).load(),
        {
            "synsetoffset2category.txt": b"Airplane 02691156\n",
            "02691156/a.txt": rows(XYZ, NORMALS[0], np.zeros((16, 1))),
            **{f"train_test_split/shuffled_{s}_file_list.json": b'["d/02691156/a"]' for s in ("train", "val", "test")},
        },
    ),
    "ModelNetMeshes": (
        lambda root: ModelNetMeshes(root, num_points=16, stored_points=16).load(),
        {f"ModelNet10/bed/{split}/bed_1.off": TETRAHEDRON for split in ("train", "test")},
    ),
    "ImageFolder": (
        lambda root: first_batch(ImageFolder(root, size=4, workers=0).load()),
        {
            "train/cat/a.png": image("RGB", "PNG"),
            "train/cat/b.jpg": image("RGB", "JPEG"),
            "train/cat/c.bmp": image("RGB", "BMP"),
            "train/cat/d.webp": image("RGB", "WEBP"),
            "test/cat/a.png": image("RGB", "PNG"),
        },
    ),
    "SceneParse": (
        lambda root: first_batch(SceneParse(root, size=4, workers=0).load()),
        {
            "objectInfo.txt": b"Idx\tName\n1\twall\n2\tfloor\n",
            **{f"images/{split}/a.png": image("RGB", "PNG") for split in ("training", "validation")},
            **{f"annotations/{split}/a.png": image("L", "PNG") for split in ("training", "validation")},
        },
    ),
}


def first_batch(images: tuple) -> None:
    for one in images:
        assert next(iter(one.batches([torch.arange(len(one))])))["image"].isfinite().all()


@pytest.mark.parametrize("name", SETS)
def test_a_set_with_a_damaged_file_is_read_or_refused(tmp_path, name):
    load, files = SETS[name]
    rng, refusals = np.random.default_rng(0), 0
    for number in range(-1, TIMES * len(files) // 2):
        root, changed = tmp_path / str(number), list(files)[number % len(files)]
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(damaged(content, rng) if path == changed and number >= 0 else content)
        try:
            for clouds in load(str(root)) or ():
                assert not isinstance(clouds, CloudSet) or clouds.xyz.isfinite().all()
        except InputError as error:
            refusals += 1
            assert number >= 0, error
            assert str(error).isprintable() and len(str(error)) < 1000
    assert refusals


def tar_file(file: io.BytesIO) -> None:
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        entry = tarfile.TarInfo("set/list.txt")
        entry.size = 300
        archive.addfile(entry, io.BytesIO(b"a b" * 100))


def zip_file(file: io.BytesIO) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/list.txt", "a b" * 100)


@pytest.mark.parametrize("write", [tar_file, zip_file])
def test_a_damaged_archive_is_unpacked_or_refused(tmp_path, write):
    rng, refusals = np.random.default_rng(0), 0
    for number in range(3 * TIMES):
        root = tmp_path / str(number)
        root.mkdir()
        (root / "set.zip").write_bytes(damaged(written(write), rng))
        try:
            fetch(Archive("set.zip", (), "set", "list.txt"), root)
        except InputError as error:
            refusals += 1
            assert str(error).isprintable()
            assert [path.name for path in root.iterdir()] == ["set.zip"]
    assert refusals
