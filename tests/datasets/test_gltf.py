"""glTF files by the specification: accessors, primitives, nodes, extensions, and what trimesh reads of them."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from bixt3d.datasets.files.gltf import GltfPoints, read_gltf
from bixt3d.datasets.files.reader import read_file
from bixt3d.types import InputError

CODES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
WIDTHS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
SQUARE = np.array([[0.0, 0, 0], [2, 0, 0], [2, 3, 0], [0, 3, 0]], np.float32)
TRIANGLES = SQUARE[[[0, 1, 2], [0, 2, 3]]].astype(np.float64)


class Writer:
    """A glTF that grows by arrays, primitives and nodes."""

    def __init__(self, **tree: Any):
        self.raw = b""
        self.tree = {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": [], "meshes": [], **tree}

    def view(self, raw: bytes, **more: Any) -> int:
        self.raw += bytes(-len(self.raw) % 4)
        self.tree["bufferViews"].append({"buffer": 0, "byteOffset": len(self.raw), "byteLength": len(raw), **more})
        self.raw += raw
        return len(self.tree["bufferViews"]) - 1

    def accessor(self, values: np.ndarray, **more: Any) -> int:
        table = values.reshape(len(values), -1)
        entry = {"componentType": CODES[values.dtype.str[1:]], "count": len(values), "type": WIDTHS[table.shape[1]]}
        self.tree["accessors"].append({"bufferView": self.view(table.tobytes()), **entry, **more})
        return len(self.tree["accessors"]) - 1

    def mesh(
        self, xyz: np.ndarray = SQUARE, index: list[int] | None = None, mode: int | None = None, **more: Any
    ) -> int:
        primitive: dict[str, Any] = {"attributes": {"POSITION": self.accessor(xyz), **more}}
        if index is not None:
            primitive["indices"] = self.accessor(np.array(index, np.uint16))
        if mode is not None:
            primitive["mode"] = mode
        self.tree["meshes"].append({"primitives": [primitive]})
        return len(self.tree["meshes"]) - 1

    def nodes(self, *nodes: dict[str, Any]) -> "Writer":
        self.tree |= {"nodes": list(nodes), "scenes": [{"nodes": list(range(len(nodes)))}]}
        return self

    def glb(self, tail: bytes = b"") -> bytes:
        text = json.dumps(self.tree | {"buffers": [{"byteLength": len(self.raw)}]}).encode()
        chunks = [(0x4E4F534A, text + b" " * (-len(text) % 4)), (0x004E4942, self.raw + bytes(-len(self.raw) % 4))]
        body = b"".join(struct.pack("<II", len(raw), kind) + raw for kind, raw in chunks)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body + tail

    def gltf(self, uri: str | None = None) -> bytes:
        uri = uri or "data:application/octet-stream;base64," + base64.b64encode(self.raw).decode()
        return json.dumps(self.tree | {"buffers": [{"byteLength": len(self.raw), "uri": uri}]}).encode()


def square(**more: Any) -> Writer:
    writer = Writer()
    writer.mesh(index=[0, 1, 2, 0, 2, 3], **more)
    return writer


def read(folder: Path, content: bytes | Writer, name: str = "a.glb") -> GltfPoints:
    (folder / name).write_bytes(content.glb() if isinstance(content, Writer) else content)
    return read_gltf(folder / name)


@pytest.mark.parametrize(
    ("mode", "index", "expected"),
    [
        (None, [0, 1, 2, 0, 2, 3], [[0, 1, 2], [0, 2, 3]]),
        (4, [0, 1, 2, 0, 2], [[0, 1, 2]]),
        (5, [0, 1, 3, 2], [[0, 1, 3], [1, 2, 3]]),
        (5, [0, 1, 3, 2, 0], [[0, 1, 3], [1, 2, 3], [3, 2, 0]]),
        (6, [0, 1, 2, 3], [[1, 2, 0], [2, 3, 0]]),
        (6, None, [[1, 2, 0], [2, 3, 0]]),
        (4, None, [[0, 1, 2]]),
    ],
)
def test_triangles_strips_and_fans_are_those_of_the_specification(tmp_path, mode, index, expected):
    writer = Writer()
    writer.mesh(index=index, mode=mode)
    found = read(tmp_path, writer.nodes({"mesh": 0}))
    assert np.array_equal(found.corners, SQUARE[expected]) and found.colors is None and not found.notes


@pytest.mark.parametrize(
    ("values", "scale", "normalized"),
    [
        (np.round(SQUARE / 3 * 255).astype(np.uint8), 3, True),
        (np.round(SQUARE / 3 * 65535).astype(np.uint16), 3, True),
        (np.round(SQUARE / 3 * 127).astype(np.int8), 3, True),
        (np.round(SQUARE / 3 * 32767).astype(np.int16), 3, True),
        (SQUARE.astype(np.int16), 1, False),
        (SQUARE.astype(np.uint8), 1, False),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_positions_may_be_integers_of_any_kind(tmp_path, values, scale, normalized):
    writer = Writer(extensionsRequired=["KHR_mesh_quantization"])
    writer.tree["meshes"].append(
        {"primitives": [{"mode": 6, "attributes": {"POSITION": writer.accessor(values, normalized=normalized)}}]}
    )
    found = read(tmp_path, writer.nodes({"mesh": 0, "scale": [scale] * 3}))
    np.testing.assert_allclose(found.corners, SQUARE[[[1, 2, 0], [2, 3, 0]]], atol=0.02)


@pytest.mark.parametrize("has_base", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32])
def test_sparse_accessors_replace_some_values(tmp_path, has_base, kind):
    writer = square()
    place, values = np.array([1, 3], kind), np.array([[5, 0, 1], [0, 7, 1]], np.float32)
    sparse = {
        "count": 2,
        "indices": {"bufferView": writer.view(place.tobytes()), "componentType": CODES[place.dtype.str[1:]]},
        "values": {"bufferView": writer.view(values.tobytes())},
    }
    accessor = writer.tree["accessors"][0]
    accessor["sparse"] = sparse
    expected = SQUARE.copy()
    if not has_base:
        del accessor["bufferView"]
        expected[:] = 0
    expected[place] = values
    found = read(tmp_path, writer.nodes({"mesh": 0}))
    assert np.array_equal(found.corners, expected[[[0, 1, 2], [0, 2, 3]]])


def test_interleaved_vertices_and_byte_offsets_are_followed(tmp_path):
    table = np.zeros(4, [("_", "f4"), ("xyz", "<f4", 3), ("rgb", "u1", 4)])
    table["xyz"], table["rgb"] = SQUARE, [[255, 0, 51, 255]] * 4
    writer = Writer()
    view = writer.view(table.tobytes(), byteStride=20)
    writer.tree["accessors"] = [
        {"bufferView": view, "byteOffset": 4, "componentType": 5126, "count": 4, "type": "VEC3"},
        {"bufferView": view, "byteOffset": 16, "componentType": 5121, "count": 4, "type": "VEC4", "normalized": True},
    ]
    writer.tree["meshes"].append({"primitives": [{"mode": 6, "attributes": {"POSITION": 0, "COLOR_0": 1}}]})
    found = read(tmp_path, writer.nodes({"mesh": 0}))
    assert np.array_equal(found.corners, SQUARE[[[1, 2, 0], [2, 3, 0]]])
    np.testing.assert_allclose(found.colors, np.broadcast_to([1, 0, 0.2], (2, 3, 3)))


TURN = [0, 0, np.sqrt(0.5), np.sqrt(0.5)]  # by 90 degrees about z: x to y


def test_nodes_place_a_mesh_by_matrices_or_by_translation_rotation_and_scale(tmp_path):
    writer = square()
    matrix = np.array([[0, -1, 0, 10], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    writer.tree |= {
        "nodes": [
            {"children": [1], "translation": [10, 0, 0], "rotation": TURN},
            {"mesh": 0, "scale": [2, 1, 1]},
            {"children": [3], "matrix": matrix.T.ravel().tolist()},
            {"mesh": 0, "scale": [2, 1, 1]},
            {"mesh": 0},  # in no scene
        ],
        "scenes": [{"nodes": [4]}, {"nodes": [0, 2]}],
        "scene": 1,
    }
    found = read(tmp_path, writer)
    expected = (TRIANGLES * [2, 1, 1]) @ matrix[:3, :3].T + [10, 0, 0]
    np.testing.assert_allclose(found.corners, np.concatenate([expected, expected]), atol=1e-6)
    assert found.notes == ("only its scene 1 of 2 read",)


def test_a_mirror_turns_the_triangles_so_that_normals_stay_outside(tmp_path):
    found = read(tmp_path, square().nodes({"mesh": 0, "scale": [-1, 1, 1]}))
    across = np.cross(found.corners[:, 1] - found.corners[:, 0], found.corners[:, 2] - found.corners[:, 0])
    assert (across[:, 2] > 0).all()


@pytest.mark.parametrize("tree", [{}, {"nodes": [{"mesh": 0}]}, {"nodes": [{"children": [1]}, {"mesh": 0}]}])
def test_without_scenes_or_nodes_all_meshes_are_read(tmp_path, tree):
    writer = square()
    writer.tree |= tree
    assert np.array_equal(read(tmp_path, writer).corners, TRIANGLES)


def test_instances_on_the_gpu_are_meshes_of_their_own(tmp_path):
    writer = square()
    attributes = {
        "TRANSLATION": writer.accessor(np.array([[0, 0, 0], [10, 0, 0], [0, 0, 5]], np.float32)),
        "ROTATION": writer.accessor(
            np.array([[0, 0, 0, 127], [0, 0, 0, 127], [0, 0, 90, 90]], np.int8), normalized=True
        ),
        "SCALE": writer.accessor(np.array([[1, 1, 1], [2, 2, 2], [1, 1, 1]], np.float32)),
        "_ID": writer.accessor(np.arange(3, dtype=np.uint16)),
    }
    extension = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    found = read(tmp_path, writer.nodes({"mesh": 0, "translation": [0, 0, 1], "extensions": extension}))
    turned = TRIANGLES[..., [1, 0, 2]] * [-1, 1, 1] + [0, 0, 6]
    expected = np.concatenate([TRIANGLES + [0, 0, 1], 2 * TRIANGLES + [10, 0, 1], turned])
    np.testing.assert_allclose(found.corners, expected, atol=1e-6)
    del attributes["TRANSLATION"], attributes["ROTATION"], attributes["SCALE"]
    assert np.array_equal(read(tmp_path, writer).corners, np.tile(TRIANGLES + [0, 0, 1], (3, 1, 1)))


def test_a_mesh_of_points_is_a_cloud_with_features(tmp_path):
    xyz = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    rgb = np.random.default_rng(1).integers(0, 256, (50, 4)).astype(np.uint8)
    writer = Writer()
    normal = np.tile(np.float32([1, 0, 0]), (50, 1))
    features = {"NORMAL": writer.accessor(normal), "COLOR_0": writer.accessor(rgb, normalized=True)}
    features["_INTENSITY"] = writer.accessor(np.arange(50, dtype=np.uint16))
    writer.mesh(xyz, mode=0, **features)
    writer.nodes({"mesh": 0, "rotation": TURN, "translation": [5e5, 5.4e6, 0], "scale": [2, 2, 2]})
    (tmp_path / "a.glb").write_bytes(writer.glb())
    (cloud,) = read_file(tmp_path / "a.glb")
    np.testing.assert_allclose(cloud.xyz, 2 * xyz[:, [1, 0, 2]] * [-1, 1, 1] + [5e5, 5.4e6, 0], atol=1e-6)
    np.testing.assert_allclose(cloud.columns["normal"], [[0, 1, 0]] * 50, atol=1e-6)
    np.testing.assert_allclose(cloud.columns["rgb"], rgb[:, :3] / 255)
    assert np.array_equal(cloud.columns["intensity"][:, 0], np.arange(50))
    assert cloud.up == "y" and not cloud.from_mesh and not cloud.notes


def test_what_is_not_read_is_said(tmp_path):
    writer = square()
    writer.tree["meshes"] += [writer.tree["meshes"][0]] * 2
    writer.mesh(mode=1)
    writer.mesh(mode=0)
    writer.tree["meshes"][1] = {**writer.tree["meshes"][0], "weights": [0.5]}
    color = writer.accessor(np.ones((4, 3), np.float32))
    writer.mesh(mode=6, COLOR_0=color, TEXCOORD_0=color, _PART=color)
    writer.nodes(*({"mesh": place} for place in range(6)), {"mesh": 0, "skin": 0}, {"camera": 0})
    assert read(tmp_path, writer).notes == (
        "its morph targets not applied",
        "its lines not read",
        "its skin not applied: the mesh is read in the pose that is stored",
        "4 points beside its faces not read",
        "its texture not read",
        "_PART of its vertices not read",
        "colors not read, which not all of its pieces have",
    )


@pytest.mark.parametrize(
    "uri", ["my box.bin", "my%20box.bin", "sub/b.bin", "sub\\b.bin", "u\u0308.bin", "data:,", "data:;base64,"]
)
def test_buffers_lie_beside_the_file_or_in_it(tmp_path, uri):
    writer = square().nodes({"mesh": 0})
    (tmp_path / "sub").mkdir()
    for name in ("my box.bin", "sub/b.bin", "\u00fc.bin"):
        (tmp_path / name).write_bytes(writer.raw)
    if uri == "data:,":
        uri += "".join(f"%{byte:02x}" for byte in writer.raw)
    elif uri == "data:;base64,":
        uri += base64.b64encode(writer.raw).decode()
    for mark in (b"", b"\xef\xbb\xbf"):
        assert np.array_equal(read(tmp_path, mark + writer.gltf(uri), "a.gltf").corners, TRIANGLES)
    assert np.array_equal(read(tmp_path, writer.gltf(uri).decode().encode("utf-16"), "a.gltf").corners, TRIANGLES)


def test_the_content_says_which_of_the_two_forms_a_file_has(tmp_path):
    writer = square().nodes({"mesh": 0})
    assert np.array_equal(read(tmp_path, writer.glb(), "a.gltf").corners, TRIANGLES)
    assert np.array_equal(read(tmp_path, writer.gltf(), "a.glb").corners, TRIANGLES)
    assert read(tmp_path, writer.glb(b"tail")).notes == ("4 bytes behind its end not read",)


def test_a_missing_texture_or_an_unused_buffer_matters_nothing(tmp_path):
    writer = square().nodes({"mesh": 0})
    writer.tree |= {"images": [{"uri": "lost.png"}], "extensionsRequired": ["KHR_texture_transform"]}
    content = json.loads(writer.gltf())
    content["buffers"].append({"uri": "lost.bin", "byteLength": 4})
    assert np.array_equal(read(tmp_path, json.dumps(content).encode(), "a.gltf").corners, TRIANGLES)


def draco(writer: Writer, raw: bytes) -> Writer:
    view = writer.view(raw)
    extension = {"KHR_draco_mesh_compression": {"bufferView": view, "attributes": {"POSITION": 0}}}
    writer.tree["accessors"] = [{"componentType": 5126, "count": 8, "type": "VEC3"}]
    writer.tree["meshes"].append({"primitives": [{"attributes": {"POSITION": 0}, "extensions": extension}]})
    return writer.nodes({"mesh": 0, "translation": [1, 0, 0]})


@pytest.mark.parametrize("level", [0, 10])
def test_a_mesh_compressed_by_draco_is_read(tmp_path, level):
    encoder = pytest.importorskip("DracoPy")
    box = trimesh.creation.box((2, 4, 6))
    raw = encoder.encode(box.vertices.astype(np.float32), box.faces, quantization_bits=14, compression_level=level)
    found = read(tmp_path, draco(Writer(extensionsRequired=["KHR_draco_mesh_compression"]), raw))
    area = np.linalg.norm(np.cross(*(found.corners[:, 1:] - found.corners[:, :1]).transpose(1, 0, 2)), axis=1).sum() / 2
    assert area == pytest.approx(88, rel=1e-3)
    np.testing.assert_allclose(found.corners.reshape(-1, 3).max(0), [2, 2, 3], atol=1e-3)
    for place in range(0, len(raw), 3):
        for damaged in (raw[:place], raw[:place] + b"\xff" + raw[place + 1 :]):
            try:
                read(tmp_path, draco(Writer(), damaged))
            except InputError as error:
                assert "\n" not in str(error)


def changed(writer: Writer, kind: str, place: int = 0, **entries: Any) -> Writer:
    writer.tree[kind][place] |= entries
    return writer


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (square().nodes({"mesh": 0}).glb()[:-1], "announces .* bytes, but it ends after"),
        (square().nodes({"mesh": 0}).glb()[:30], "announces .* bytes, but it ends after"),
        (square().nodes({"mesh": 0}).glb()[:6], "cannot be read"),
        (struct.pack("<4sII", b"glTF", 1, 12), "is glTF 1: only 2.0 is read"),
        (b'{"asset": {"version": "1.0"}}', "is glTF 1.0: only 2.0 is read"),
        (b'{"asset": {"version": "2.0"}, "extensionsRequired": ["ADOBE_x"]}', "requires the extension ADOBE_x, which"),
        (
            b'{"asset": {"version": "2.0"}, "extensionsRequired": ["EXT_meshopt_compression"]}',
            "requires the extension EXT_meshopt_compression, which is not read: remove it by gltfpack",
        ),
        (changed(square(), "accessors", count=5), "has 5 entries where only 48 bytes are stored"),
        (changed(square(), "accessors", 1, count=99), "has 99 entries where only 12 bytes are stored"),
        (changed(square(), "accessors", byteOffset=4), "has 4 entries where only 48 bytes are stored"),
        (changed(square(), "accessors", count=-1), "declares a negative size"),
        (changed(square(), "accessors", type="SCALAR"), "cannot be read"),
        (changed(square(), "bufferViews", byteLength=9999), "has a buffer that ends after 60 bytes, but 9999 are used"),
        (changed(square(), "bufferViews", buffer=7), "cannot be read"),
        (Writer(nodes=[{"children": [0]}], scenes=[{"nodes": [0]}]), "has a node in two places"),
        (square().nodes({"mesh": 0}, {"children": [0]}), "has a node in two places"),
        (square().nodes({"mesh": 0, "scale": [1, 1, float("inf")]}), "numbers that are not finite"),
        (square().nodes({"mesh": 0, "matrix": [1, 2]}), "cannot be read"),
        (square().nodes({"mesh": 5}), "cannot be read"),
        (square().nodes({"camera": 0}), "contains no mesh and no points"),
        (Writer().nodes(), "contains no mesh and no points"),
    ],
)
def test_what_is_cut_short_or_wrong_is_refused_in_one_sentence(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_an_index_of_a_vertex_that_is_not_there_is_refused(tmp_path):
    writer = Writer()
    writer.mesh(index=[0, 1, 4])
    with pytest.raises(InputError, match="refers to vertex 4 of 4"):
        read(tmp_path, writer.nodes({"mesh": 0}))


def test_few_bytes_that_ask_for_many_instances_are_refused(tmp_path):
    writer = square()
    writer.tree["accessors"].append({"componentType": 5126, "count": 5001, "type": "VEC3"})
    extension = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 2}}}
    with pytest.raises(InputError, match="is of more than 5000 pieces"):
        read(tmp_path, writer.nodes({"mesh": 0, "extensions": extension}))


@pytest.mark.parametrize("suffix", ["glb", "gltf"])
def test_a_scene_is_what_trimesh_reads(tmp_path, suffix):
    scene = trimesh.Scene()
    for place in range(3):
        ball = trimesh.creation.icosphere(1, radius=1 + place)
        ball.visual.vertex_colors = np.random.default_rng(place).integers(0, 256, (len(ball.vertices), 4))
        matrix = trimesh.transformations.random_rotation_matrix(np.full(3, 0.2 + place / 5))
        matrix[:3, 3] = [9 * place, 0, 1]
        scene.add_geometry(ball, transform=matrix)
    exported = scene.export(file_type=suffix)
    for name, content in ({"model.glb": exported} if suffix == "glb" else exported).items():
        (tmp_path / name).write_bytes(content)
    found = read_gltf(tmp_path / f"model.{suffix}")
    loaded = trimesh.load_scene(tmp_path / f"model.{suffix}", process=False).dump()
    loaded.sort(key=lambda piece: piece.bounds[0, 0])
    found_order = found.corners.reshape(3, -1, 3)[..., 0].min(1).argsort()
    for place, piece in zip(found_order, loaded, strict=True):
        here = slice(80 * place, 80 * place + 80)
        np.testing.assert_allclose(found.corners[here], piece.vertices[piece.faces], atol=1e-6)
        colors = piece.visual.vertex_colors[piece.faces][..., :3] / 255
        np.testing.assert_allclose(found.colors[here], colors, atol=1e-6)
