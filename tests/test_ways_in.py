"""One cloud gives one answer: as an array or a tensor, from files of every kind, from objects of other packages."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import trimesh
from torch_geometric.data import Batch, Data
from written_runs import write_run

from bixt3d import load_run
from bixt3d.cli import predict
from bixt3d.datasets.files.arrays import as_clouds
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.files.writers import write_ply
from bixt3d.inference.clouds import PartPredictor, Predictor
from bixt3d.models.create import create_model

NAMES = ["bed", "car", "mug"]
PARTS = {"part_names": ["bed/leg", "bed/top", "mug/body"], "class_parts": {"bed": [0, 1], "mug": [2]}}
CONFIG = """
data: {class_path: Shapes, init_args: {num_points: 32, features: 'FEATURES'}}
model:
  class_path: MODEL
  init_args:
    tokenizer: {class_path: PointTokenizer, init_args: {dim: 16}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4, reads: ROLE}}
"""
DRAW = np.random.default_rng(0)
XYZ = DRAW.integers(-2048, 2048, (40, 3)) / 1024  # exact in float32, and far from the origin in float64
FAR = np.array([500_000.0, 5_400_000.0, 128.0])  # as surveys have it (UTM)
RGB = DRAW.integers(0, 256, (40, 3)).astype(np.uint8)
NORMAL = DRAW.normal(size=(40, 3))
NORMAL /= np.linalg.norm(NORMAL, axis=1, keepdims=True)
VALUES = {"rgb": RGB, "normal": NORMAL, "intensity": DRAW.integers(0, 99, (40, 1)) / 8}
FEATURES = ("", "rgb", "normal", "intensity")

Columns = dict[str, np.ndarray]


def columns_of(features: str) -> Columns:
    return {features: VALUES[features]} if features else {}


def save(folder: Path, features: str, task: str = "classification") -> Path:
    parts = task == "part segmentation"
    config = CONFIG.replace("FEATURES", features).replace("ROLE", "tokens" if parts else "latents")
    config = config.replace("MODEL", "TokenSegmenter" if parts else "BixtClassifier")
    if parts:
        config += "    use_category: false\n"
    model = create_model(config, 3, num_categories=2) if parts else create_model(config, len(NAMES))
    torch.nn.init.normal_(model.head.weight, std=3)  # a new head says nothing
    names = {"class_names": ["bed", "mug"], **PARTS} if parts else {"class_names": NAMES}
    write_run(folder / "model.safetensors", model, task, config, **names)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Return the folder of a classifier on each feature alone."""
    return {name: save(tmp_path_factory.mktemp("run"), name) for name in FEATURES}


@pytest.fixture(scope="module")
def predictors(runs) -> dict[str, Predictor]:
    return {name: load_run(run) for name, run in runs.items()}


@pytest.fixture(scope="module")
def part_predictor(tmp_path_factory) -> PartPredictor:
    return load_run(save(tmp_path_factory.mktemp("parts"), "rgb", "part segmentation"))


def table(xyz: np.ndarray, columns: Columns) -> np.ndarray:
    return np.hstack([xyz, *columns.values()])


def header(columns: Columns) -> list[str]:
    names = {"rgb": ["red", "green", "blue"], "normal": ["nx", "ny", "nz"], "intensity": ["intensity"]}
    return ["x", "y", "z", *(name for column in columns for name in names[column])]


def as_npy(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    np.save(path, table(xyz, columns))


def as_npz(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    np.savez(path, points=xyz, **columns)


def as_h5(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = xyz
        for name, values in columns.items():
            file[{"rgb": "color"}.get(name, name)] = values[:, 0] if values.shape[1] == 1 else values


def as_records(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    rows = np.rec.fromarrays(table(xyz, columns).T, names=header(columns))
    if path.suffix == ".npy":
        np.save(path, rows)
        return
    with h5py.File(path, "w") as file:
        file["scan/points"] = rows


def as_channels(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    np.save(path, table(xyz, columns).T)


def as_text(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    comma = "," if path.suffix == ".csv" else " "
    head = comma.join(header(columns)) if path.suffix != ".xyz" else ""
    np.savetxt(path, table(xyz, columns), "%.17g", comma, header=head, comments="")


def as_floats(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    as_text(path, xyz, columns | {"rgb": RGB / 255})


def as_pcd(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    fields = {axis: xyz[:, place] for place, axis in enumerate("xyz")}
    for name, values in columns.items():
        if name == "rgb":
            red, green, blue = values.T.astype(np.uint32)
            fields["rgb"] = (red << 16 | green << 8 | blue).view(np.float32)
        elif name == "normal":
            fields |= {f"normal_{axis}": values[:, place] for place, axis in enumerate("xyz")}
        else:
            fields[name] = values[:, 0].astype(np.float32)
    rows = np.empty(len(xyz), [(name, values.dtype) for name, values in fields.items()])
    for name, values in fields.items():
        rows[name] = values
    sizes = " ".join(str(values.dtype.itemsize) for values in fields.values())
    head = (
        f"VERSION 0.7\nFIELDS {' '.join(fields)}\nSIZE {sizes}\nTYPE{' F' * len(fields)}\nCOUNT{' 1' * len(fields)}\n"
    )
    head += f"WIDTH {len(xyz)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(xyz)}\nDATA binary\n"
    path.write_bytes(head.encode() + rows.tobytes())


def as_moved_pcd(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    """Write floats near the origin, which the VIEWPOINT in the header moves."""
    origin = np.round(xyz.mean(0))
    as_pcd(path, (xyz - origin).astype(np.float32), columns)
    path.write_bytes(path.read_bytes().replace(b"VIEWPOINT 0 0 0", b"VIEWPOINT %f %f %f" % tuple(origin)))


def as_glb(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    """Write floats near the origin, which a node moves: a mesh of points."""
    origin = np.round(xyz.mean(0))
    values = {"POSITION": (xyz - origin).astype("<f4")}
    values |= {"COLOR_0": (RGB / 255).astype("<f4")} if "rgb" in columns else {}
    values |= {"NORMAL": NORMAL.astype("<f4")} if "normal" in columns else {}
    raw = b"".join(one.tobytes() for one in values.values())
    tree = {
        "asset": {"version": "2.0"},
        "accessors": [
            {"bufferView": i, "componentType": 5126, "count": 40, "type": "VEC3"} for i in range(len(values))
        ],
        "bufferViews": [{"buffer": 0, "byteOffset": 480 * i, "byteLength": 480} for i in range(len(values))],
        "buffers": [{"byteLength": len(raw)}],
        "meshes": [{"primitives": [{"mode": 0, "attributes": {name: i for i, name in enumerate(values)}}]}],
        "nodes": [{"mesh": 0, "translation": origin.tolist()}],
    }
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(raw), b"BIN\0") + raw
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def as_ply(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    write_ply(path, xyz, columns)


def as_ushort(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    write_ply(path, xyz, columns | {"rgb": RGB.astype(np.uint16) * 257})


def as_float_ply(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    write_ply(path, xyz, columns | {"rgb": (RGB / 255).astype(np.float32)})


def as_ascii_ply(path: Path, xyz: np.ndarray, columns: Columns) -> None:
    head = ["ply", "format ascii 1.0", f"element vertex {len(xyz)}"]
    head += [f"property {'uchar' if name in ('red', 'green', 'blue') else 'double'} {name}" for name in header(columns)]
    rows = [" ".join(f"{value:.17g}" for value in row) for row in table(xyz, columns)]
    path.write_text("\n".join([*head, "end_header", *rows, ""]))


FILES: list[tuple[str, Callable[[Path, np.ndarray, Columns], None], tuple[str, ...]]] = [
    ("a.npy", as_npy, ("", "rgb", "normal")),  # columns without names: what their numbers can only be
    ("a.npz", as_npz, FEATURES),
    ("a.h5", as_h5, FEATURES),
    ("records.npy", as_records, FEATURES),
    ("records.h5", as_records, FEATURES),
    ("channels.npy", as_channels, ("", "rgb", "normal")),
    ("moved.pcd", as_moved_pcd, ("", "rgb", "normal")),
    ("a.glb", as_glb, ("", "rgb", "normal")),
    ("a.txt", as_text, FEATURES),
    ("a.csv", as_text, FEATURES),
    ("a.xyz", as_text, ("", "rgb", "normal")),
    ("floats.csv", as_floats, ("rgb",)),
    ("a.pcd", as_pcd, FEATURES),
    ("a.ply", as_ply, FEATURES),
    ("ascii.ply", as_ascii_ply, FEATURES),
    ("ushort.ply", as_ushort, ("rgb",)),
    ("float.ply", as_float_ply, ("rgb",)),
]
FILE_CASES = [
    pytest.param(name, write, features, id=f"{name}-{features or 'xyz'}")
    for name, write, known in FILES
    for features in known
]


def open3d_cloud(xyz: np.ndarray, columns: Columns) -> Any:
    o3d = pytest.importorskip("open3d", reason="needs open3d", exc_type=ImportError)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(xyz))
    if "rgb" in columns:
        cloud.colors = o3d.utility.Vector3dVector(columns["rgb"] / 255)
    if "normal" in columns:
        cloud.normals = o3d.utility.Vector3dVector(columns["normal"])
    return cloud


def open3d_tensors(xyz: np.ndarray, columns: Columns) -> Any:
    o3d = pytest.importorskip("open3d", reason="needs open3d", exc_type=ImportError)
    cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor(xyz))
    for name, values in columns.items():
        cloud.point[{"rgb": "colors", "normal": "normals"}.get(name, name)] = o3d.core.Tensor(values)
    return cloud


def pyg(xyz: np.ndarray, columns: Columns) -> Data:
    return Data(pos=torch.from_numpy(xyz), **{name: torch.from_numpy(values) for name, values in columns.items()})


def frame(xyz: np.ndarray, columns: Columns) -> Any:
    return pytest.importorskip("pandas").DataFrame(table(xyz, columns), columns=header(columns))


OBJECTS: list[tuple[Callable[[np.ndarray, Columns], Any], tuple[str, ...]]] = [
    (lambda xyz, columns: Cloud(xyz, columns), FEATURES),
    (pyg, FEATURES),
    (lambda xyz, columns: trimesh.PointCloud(xyz, columns.get("rgb")), ("", "rgb")),
    (open3d_cloud, ("", "rgb", "normal")),
    (open3d_tensors, FEATURES),
    (frame, FEATURES),
    (lambda xyz, columns: np.rec.fromarrays(table(xyz, columns).T, names=header(columns)), FEATURES),
]
NAMES_OF_OBJECTS = ("Cloud", "PyG", "trimesh", "Open3D", "Open3D.t", "pandas", "records")
OBJECT_CASES = [
    pytest.param(make, features, id=f"{name}-{features or 'xyz'}")
    for (make, known), name in zip(OBJECTS, NAMES_OF_OBJECTS, strict=True)
    for features in known
]
PLACES = pytest.mark.parametrize("place", [np.zeros(3), FAR], ids=["near", "far"])


def check(found: Any, expected: Any) -> None:
    assert found.name == expected.name
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


@PLACES
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("give", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_arrays_and_tensors_near_and_far_agree(predictors, features, give, place):
    expected = predictors[features].predict(XYZ, columns_of(features))
    given = {name: give(values) for name, values in columns_of(features).items()}
    check(predictors[features].predict(give(XYZ + place), given), expected)
    (of_batch,) = predictors[features].predict(give((XYZ + place)[None]), {name: v[None] for name, v in given.items()})
    check(of_batch, expected)


@PLACES
@pytest.mark.parametrize(("name", "write", "features"), FILE_CASES)
def test_a_file_gives_the_answer_of_its_array_to_api_and_program(
    predictors, runs, tmp_path, capsys, name, write, features, place
):
    write(tmp_path / name, XYZ + place, columns_of(features))
    up = "-y" if name.endswith(".pcd") else None  # as depth cameras write it
    expected = predictors[features].predict(XYZ, columns_of(features), up=up)
    check(predictors[features].predict(tmp_path / name), expected)
    check(predictors[features].predict(str(tmp_path / name)), expected)
    check(predictors[features].predict(read_file(tmp_path / name))[0], expected)
    assert predict.main([str(tmp_path / name), f"--checkpoint={runs[features]}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)


@PLACES
@pytest.mark.parametrize(("make", "features"), OBJECT_CASES)
def test_an_object_of_a_package_gives_the_answer_of_its_array(predictors, make, features, place):
    expected = predictors[features].predict(XYZ, columns_of(features))
    check(predictors[features].predict(make(XYZ + place, columns_of(features))), expected)
    check(predictors[features].predict([make(XYZ + place, columns_of(features))])[0], expected)


@PLACES
@pytest.mark.parametrize("features", FEATURES)
def test_a_pyg_batch_and_a_batch_vector_give_the_answers_of_their_clouds(predictors, features, place):
    own, half = columns_of(features), {name: values[20:] for name, values in columns_of(features).items()}
    expected = [predictors[features].predict(XYZ, own), predictors[features].predict(XYZ[20:], half)]
    graphs = Batch.from_data_list([pyg(XYZ + place, own), pyg(XYZ[20:] + place, half)])
    both = np.concatenate([XYZ, XYZ[20:]]) + place
    columns = {name: np.concatenate([values, values[20:]]) for name, values in own.items()}
    batch = np.repeat([0, 1], [40, 20])
    mixed = np.argsort(np.r_[:40, :20], kind="stable")
    shuffled = {name: values[mixed] for name, values in columns.items()}
    for found in (
        predictors[features].predict(graphs),
        predictors[features].predict(both, columns, batch=graphs.batch),
        predictors[features].predict(both, columns, batch=batch.astype(np.uint8)),
        predictors[features].predict(both[mixed], shuffled, batch=batch[mixed]),  # two clouds in turns
    ):
        for one, other in zip(found, expected, strict=True):
            check(one, other)


def test_points_that_a_mask_leaves_out_count_for_nothing(predictors):
    dense = np.stack([XYZ, np.concatenate([XYZ[20:], np.full((20, 3), np.nan)])])
    mask = np.stack([np.full(40, True), np.arange(40) < 20])
    found = predictors["rgb"].predict(dense, {"rgb": np.stack([RGB, np.roll(RGB, 20, 0)])}, batch=torch.tensor(mask))
    check(found[0], predictors["rgb"].predict(XYZ, {"rgb": RGB}))
    check(found[1], predictors["rgb"].predict(XYZ[20:], {"rgb": RGB[20:]}))


@PLACES
def test_labels_and_confidences_agree_too(part_predictor, tmp_path, place):
    expected = part_predictor.predict(XYZ, {"rgb": RGB}, probabilities=True)
    as_pcd(tmp_path / "a.pcd", XYZ + place, {"rgb": RGB})
    ways = [part_predictor.predict(tmp_path / "a.pcd", up="y", probabilities=True)]
    for name, write in (("a.ply", as_ply), ("a.txt", as_text), ("a.npz", as_npz), ("a.h5", as_h5)):
        write(tmp_path / name, XYZ + place, {"rgb": RGB})
        ways.append(part_predictor.predict(tmp_path / name, probabilities=True))
    for make in (pyg, open3d_cloud, Cloud):
        ways.append(part_predictor.predict(make(XYZ + place, {"rgb": RGB}), probabilities=True))
    for found in ways:
        assert found.category == expected.category
        assert torch.equal(found.parts, expected.parts)
        assert torch.allclose(found.confidence, expected.confidence, atol=1e-5)
        assert torch.allclose(found.probabilities, expected.probabilities, atol=1e-5)


def mesh_of_trimesh(place: np.ndarray) -> trimesh.Trimesh:
    box = trimesh.creation.box((1.0, 2.0, 4.0))
    box.vertices += place
    box.visual.vertex_colors = RGB[:8]
    return box


@PLACES
def test_a_colored_mesh_gives_one_answer_from_every_file_and_package(predictors, tmp_path, place):
    o3d = pytest.importorskip("open3d", reason="needs open3d", exc_type=ImportError)
    box = mesh_of_trimesh(place)
    expected = predictors["rgb"].predict(mesh_of_trimesh(np.zeros(3)))
    other = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(box.vertices), o3d.utility.Vector3iVector(box.faces))
    other.vertex_colors = o3d.utility.Vector3dVector(RGB[:8] / 255)
    for given in (box, trimesh.Scene(box), other, o3d.t.geometry.TriangleMesh.from_legacy(other)):
        check(predictors["rgb"].predict(given), expected)
    (tmp_path / "a.obj").write_bytes(trimesh.exchange.obj.export_obj(box, digits=9).encode())
    assert o3d.io.write_triangle_mesh(str(tmp_path / "a.ply"), other)  # with doubles
    if not place.any():  # which holds floats
        box.export(tmp_path / "a.glb")
    for path in sorted(tmp_path.iterdir()):
        check(predictors["rgb"].predict(path), expected)


def test_colors_between_the_corners_of_a_face_are_those_of_the_corners_by_distance():
    mesh = trimesh.Trimesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], vertex_colors=255 * np.eye(3, dtype=int))
    cloud = read_colors(mesh)
    x, y, _ = cloud.xyz.T
    np.testing.assert_allclose(cloud.columns["rgb"], np.stack([1 - x - y, x, y], 1), atol=1e-12)


def test_a_face_that_has_one_color_gives_it_to_all_its_points():
    faces = trimesh.Trimesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0, 1, 2], [3, 2, 1]], process=False)
    faces.visual.face_colors = [[255, 0, 0], [0, 0, 255]]
    cloud = read_colors(faces)
    np.testing.assert_allclose(cloud.columns["rgb"][:, 0], cloud.xyz[:, :2].sum(1) < 1, atol=1e-12)
    assert cloud.columns["rgb"].max() <= 1


def read_colors(mesh: trimesh.Trimesh) -> Cloud:
    single, (cloud,) = as_clouds(mesh)
    assert single and cloud.from_mesh
    return cloud
