"""Clouds from Python objects: arrays of every layout and dtype, batches, and what is refused in one sentence."""

import laspy
import numpy as np
import pandas
import pytest
import torch
import trimesh

from bixt3d.datasets.files.arrays import as_clouds
from bixt3d.datasets.files.cloud import Cloud, with_features
from bixt3d.datasets.files.feature_columns import select_features
from bixt3d.types import Features, InputError

XYZ = np.random.default_rng(0).integers(-99, 99, (12, 3)).astype(np.float64)
RGB = np.arange(36, dtype=np.uint8).reshape(12, 3)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "reversed": lambda a: a[::-1].copy()[::-1],
    "Fortran": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, axis=0)[::2],
    "read-only": read_only,
    "int8": lambda a: a.astype(np.int8),
    "int64": lambda a: a.astype(np.int64),
    "float16": lambda a: a.astype(np.float16),
    "long double": lambda a: a.astype(np.longdouble),
    "matrix": lambda a: a.view(np.matrix),
    "tensor": torch.tensor,
    "tensor of floats": lambda a: torch.tensor(a, dtype=torch.float32),
    "half tensor": lambda a: torch.tensor(a, dtype=torch.float16),
    "bfloat16 tensor": lambda a: torch.tensor(a, dtype=torch.bfloat16),
    "integer tensor": lambda a: torch.tensor(a, dtype=torch.int16),
    "tensor with a gradient": lambda a: torch.tensor(a, dtype=torch.float64, requires_grad=True),
    "turned tensor": lambda a: torch.tensor(a.T).T,
    "negated view": lambda a: torch.tensor(-1j * a, dtype=torch.complex64).conj().imag,
}


@pytest.mark.filterwarnings("ignore:.*matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("give", LAYOUTS.values(), ids=LAYOUTS)
def test_the_memory_layout_of_an_array_does_not_change_the_cloud(give):
    colors = XYZ + 99  # numbers that all dtypes can represent
    single, (cloud,) = as_clouds(give(XYZ), {"intensity": give(colors)})
    assert single and cloud.xyz.dtype == np.float64 and cloud.xyz.dtype.isnative
    assert np.array_equal(cloud.xyz, XYZ)
    assert torch.equal(torch.from_numpy(cloud.xyz), torch.from_numpy(XYZ))
    wanted = colors.astype(np.int8) if give is LAYOUTS["int8"] else colors
    assert np.array_equal(cloud.columns["intensity"], wanted)


@pytest.mark.parametrize("give", [*list(LAYOUTS.values())[:5], lambda a: a.astype(np.float32)])
def test_a_cloud_may_have_arrays_of_any_layout(give):
    single, (cloud,) = as_clouds(Cloud(give(XYZ), {"colors": give(RGB)}))
    assert single and np.array_equal(cloud.xyz, XYZ) and np.array_equal(cloud.columns["rgb"], RGB)
    torch.from_numpy(cloud.xyz)


def test_normals_stay_as_given_and_get_length_1_for_a_model_that_reads_them():
    from torch_geometric.data import Data

    normal = np.tile([[0.0, 0, 2], [3, 0, 0], [0, -1, 0]], (4, 1))
    unit, features = np.sign(normal), Features.parse("normal")
    graph = Data(pos=torch.tensor(XYZ), normal=torch.tensor(normal))
    for given in (graph, Cloud(XYZ, {"normals": normal}), XYZ):
        _, (cloud,) = as_clouds(given, {"normal": normal} if given is XYZ else None)
        assert np.array_equal(cloud.columns["normal"], normal) and not cloud.notes
        read = with_features(cloud, features)
        assert np.array_equal(read.columns["normal"], unit) and read.notes == ("normals scaled to length 1",)
        assert with_features(read, features).notes == read.notes
        assert not with_features(cloud, Features()).notes


def test_normals_without_a_direction_are_left_out_and_said():
    for normal in (np.zeros((12, 3)), np.full((12, 3), np.nan)):
        _, (cloud,) = as_clouds(XYZ, {"normal": normal})
        cloud = with_features(cloud, Features.parse("normal"))
        assert not cloud.columns
        assert cloud.notes == ("its normals left out, which have no direction or are not finite",)


def test_what_stands_for_1_in_colors_is_their_type_or_the_largest_number_before_clouds_are_split():
    dark_and_bright = np.stack([np.full((12, 3), 1.0), np.full((12, 3), 51.0)])
    _, clouds = as_clouds(np.stack([XYZ, XYZ]), {"rgb": dark_and_bright})
    for cloud, value in zip(clouds, (1 / 255, 0.2), strict=True):
        cloud = with_features(cloud, Features.parse("rgb"))
        assert cloud.columns["rgb"] == pytest.approx(value) and cloud.notes == ("colors taken for 0 to 255",)
    for kind, full, notes in (
        (np.uint8, 255, ()),
        (np.uint16, 65535, ("colors taken for 0 to 65535 by their dtype, though none is above 255",)),
    ):
        cloud = with_features(Cloud(XYZ, {"rgb": RGB.astype(kind)}), Features.parse("rgb"))
        assert cloud.columns["rgb"] == pytest.approx(RGB / full) and cloud.notes == notes


def test_a_name_that_comes_twice_is_refused_by_a_model_that_reads_it_and_kept_for_others():
    _, (cloud,) = as_clouds(XYZ, {"Intensity": XYZ[:, 0], "intensity": XYZ[:, 1], "color": RGB})
    assert list(cloud.columns) == ["Intensity", "intensity", "rgb"]
    assert list(with_features(cloud, Features.parse("rgb")).columns) == ["Intensity", "intensity", "rgb"]
    with pytest.raises(InputError, match="has Intensity, intensity, which all mean intensity"):
        with_features(cloud, Features.parse("intensity"))


def test_numbered_columns_are_one_wide_feature():
    parts = {f"FPFH_{place}": XYZ[:, :1] + place for place in range(3)}
    cloud = with_features(Cloud(XYZ, parts), Features.parse("fpfh:3"))
    assert np.array_equal(cloud.columns["fpfh"], XYZ[:, :1] + np.arange(3))
    with pytest.raises(InputError, match="has no fpfh"):
        select_features(parts, Features.parse("fpfh:4"), "it")


def test_all_missing_features_are_named_at_once_and_columns_without_a_name_are_explained():
    columns, features = {"rgb": RGB, "column7": RGB[:, :1]}, Features.parse("normal,rgb,intensity")
    with pytest.raises(InputError) as caught:
        select_features(columns, features, "it")
    assert str(caught.value) == (
        "it has no normal, intensity (it has column7, rgb); name its columns: a text file begins with a line such as "
        "x y z intensity r g b; leave out of --data.features what is missing to do without"
    )


@pytest.mark.parametrize(("name", "said"), [("intensity", "intensity"), ("rgb", "color")])
def test_a_feature_that_some_points_lack_is_refused_with_their_number_and_what_to_do(name, said):
    values = RGB.astype(np.float64)[:, : 3 if name == "rgb" else 1]
    values[[2, 5]] = np.nan
    with pytest.raises(InputError, match=f"^it has {said} that is not finite .* in 2 of 12 points: give them a number"):
        select_features({name: values}, Features.parse(name), "it")


def test_clouds_of_a_list_are_called_by_their_place():
    assert [cloud.name for cloud in as_clouds([XYZ, XYZ, Cloud(XYZ, name="mine")])[1]] == ["cloud 0", "cloud 1", "mine"]
    with pytest.raises(InputError, match="entry 1 of the list: clouds are numbers"):
        as_clouds([XYZ, XYZ[:, :2]])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (torch.zeros(12, 3, device="meta"), "expected an array of numbers"),
        (torch.tensor(XYZ).to_sparse(), "expected an array of numbers"),
        (torch.zeros(12, 3, dtype=torch.complex64), "not of complex64"),
        (XYZ.astype(complex), "not of complex128"),
        (XYZ.astype(object), "not of object"),
        (XYZ.astype(str), "not of <U"),
        (XYZ > 0, "clouds are numbers"),
        (np.ma.masked_less(XYZ, 0), "some numbers of this array are masked"),
        ((XYZ, XYZ), r"not tuple: give a list of clouds, or features="),
        ({"xyz": XYZ}, "not dict"),
        ([[0.0, 0], [1, 1]], r"shape \(N, 3\)"),
        ([[0.0, 0, 0], [1, 1]], "expected an array of numbers"),
        (np.ones((30, 40)), "turn depth maps into points first"),
        (XYZ.T, "coordinates come last, so swap the last two axes"),
        (np.hstack([XYZ, XYZ]), "the other columns as features by name"),
        (np.zeros(3, [("x", "f4"), ("y", "f4")]), r"has no columns x, y, z \(it has x, y\)"),
        (pandas.DataFrame({"a": [1.0], "b": [2.0]}), r"has no columns x, y, z \(it has a, b\)"),
        (pandas.DataFrame({name: np.zeros(0) for name in "xyz"}), "^the input has 0 points: a cloud takes many$"),
        (pandas.DataFrame(np.zeros((0, 6))), "^the input has 0 points: a cloud takes many$"),
        (np.zeros(0, [(name, "f4") for name in ("x", "y", "z", "rgb")]), "^the input has 0 points: a cloud takes many"),
        (np.zeros((0, 3)), r"^the input has 0 points \(float64 of \(0, 3\)\): a cloud takes many$"),
        (np.zeros((2, 0, 3)), "^the input has 0 points "),
        (torch.zeros(1, 3), "^the input has 1 point: a cloud takes many$"),
        (np.array([[1, 2, 3], [np.nan, 0, 0]]), "^the input has 1 point, the others are NaN, .*: a cloud takes many$"),
        (Cloud(np.zeros((1, 3))), "^the input has 1 point: a cloud takes many$"),
        (Cloud(np.zeros((0, 3))), "^the input has 0 points: a cloud takes many$"),
        (trimesh.PointCloud(np.zeros((0, 3))), "has 0 points"),
        (trimesh.Scene(), "has 0 points"),
        (trimesh.load_path(np.eye(3)), "has 0 points"),
    ],
    ids=str,
)
def test_what_is_no_cloud_is_refused_in_one_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        as_clouds(given)
    assert "\n" not in str(caught.value)


def test_features_that_fit_no_points_or_are_no_numbers_are_refused_by_name():
    with pytest.raises(InputError, match=r"rgb of shape \(5, 3\) does not fit points of shape \(12, 3\)"):
        as_clouds(XYZ, {"rgb": RGB[:5]})
    with pytest.raises(InputError, match="rgb: expected an array of numbers, not of object"):
        as_clouds(XYZ, {"rgb": RGB.astype(object)})


@pytest.mark.parametrize(
    ("xyz", "batch", "sentence"),
    [
        (XYZ, np.zeros(5, int), r"batch is integers of shape \(12,\), not int64 of shape \(5,\)"),
        (XYZ, np.ones(12, bool), r"batch is integers of shape \(12,\), not bool"),
        (XYZ[None], np.zeros((1, 12), int), r"batch is a mask of shape \(1, 12\), not int64"),
        (XYZ, np.repeat([0, 2], 6), "no point is of cloud 1"),
        (XYZ, np.repeat([1, 2], 6), "no point is of cloud 0"),
        (XYZ, np.repeat([-1, 0], 6), "no point is of cloud 1"),
    ],
    ids=str,
)
def test_a_batch_that_fits_no_cloud_is_refused(xyz, batch, sentence):
    with pytest.raises(InputError, match=sentence):
        as_clouds(xyz, batch=batch)
    with pytest.raises(InputError, match="features and batch are for arrays"):
        as_clouds([xyz], batch=batch)


def test_a_texture_or_colors_of_some_pieces_that_are_not_read_are_noted():
    box = trimesh.creation.box()
    box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)))
    assert as_clouds(box)[1][0].notes == ("its texture not read",)
    red, plain = trimesh.creation.box(), trimesh.creation.box()
    red.visual.vertex_colors = [255, 0, 0]
    _, (cloud,) = as_clouds(trimesh.Scene([red, plain]))
    assert list(cloud.columns) == ["normal"] and cloud.notes == ("colors not read, which not all of its pieces have",)


def test_a_small_mesh_far_from_the_origin_keeps_its_normals():
    box = trimesh.creation.box((0.01, 0.01, 0.01))
    box.vertices += [500_000, 5_400_000, 100]
    _, (cloud,) = as_clouds(box, mesh_points=60)
    assert np.allclose(np.linalg.norm(cloud.columns["normal"], axis=1), 1)
    assert np.allclose(np.abs(cloud.columns["normal"]).max(1), 1, atol=1e-6)


FRAMES = {
    "pandas": pandas.DataFrame(
        {"x": XYZ[:, 0], "y": XYZ[:, 1], "z": XYZ[:, 2], "intensity": np.arange(12), "word": "a"}
    ),
    "records": np.rec.fromarrays([*XYZ.T, np.arange(12)], names="x,y,z,intensity"),
    "records (3, 4)": np.rec.fromarrays([*XYZ.T, np.arange(12)], names="X,Y,Z,Intensity").reshape(3, 4),
    "nested": np.array(list(zip(XYZ, np.arange(12), strict=True)), [("position", ">f8", 3), ("intensity", "u2")]),
}


@pytest.mark.parametrize("given", FRAMES.values(), ids=FRAMES)
def test_tables_with_named_columns_are_clouds_with_features(given):
    single, (cloud,) = as_clouds(given)
    assert single and np.array_equal(cloud.xyz, XYZ) and list(cloud.columns) == ["intensity"]
    assert np.array_equal(cloud.columns["intensity"][:, 0], np.arange(12))
    assert cloud.notes == (("word not read",) if "word" in getattr(given, "columns", ()) else ())


def test_words_in_records_are_said():
    table = np.array([(*one, "car") for one in XYZ], [("x", "f8"), ("y", "f8"), ("z", "f8"), ("class", "U3")])
    (cloud,) = as_clouds(table)[1]
    assert np.array_equal(cloud.xyz, XYZ) and cloud.notes == ("class not read",)


def test_a_data_frame_without_names_is_a_table():
    (cloud,) = as_clouds(pandas.DataFrame(np.hstack([XYZ, RGB])))[1]
    assert np.array_equal(cloud.xyz, XYZ) and np.array_equal(cloud.columns["rgb"], RGB)


def test_lists_of_points_are_clouds():
    single, (cloud,) = as_clouds(XYZ.tolist())
    assert single and np.array_equal(cloud.xyz, XYZ)
    assert as_clouds([tuple(row) for row in XYZ.astype(int).tolist()])[0]
    single, clouds = as_clouds([XYZ.tolist(), XYZ[:5].tolist()])
    assert not single and [len(one) for one in clouds] == [12, 5]


def test_a_cloud_of_laspy_keeps_its_coordinates_colors_and_dimensions():
    las = laspy.create(point_format=3)
    las.header.offsets, las.header.scales = [500_000, 5_400_000, 0], [0.001] * 3
    far = XYZ + [500_000.125, 5_400_000.5, 3]
    las.x, las.y, las.z = far.T
    las.red, las.green, las.blue = (RGB.astype(np.uint16) * 257).T
    las.intensity = np.arange(12)
    (cloud,) = as_clouds(las)[1]
    np.testing.assert_allclose(cloud.xyz, far, atol=1e-6)
    assert np.array_equal(cloud.columns["rgb"], RGB.astype(np.uint16) * 257) and cloud.up == "z"
    assert np.array_equal(cloud.columns["intensity"][:, 0], np.arange(12)) and "X" not in cloud.columns


def test_an_array_of_several_clouds_that_looks_like_one_depth_image_is_said():
    image = np.stack([*np.meshgrid(np.arange(7.0), np.arange(6.0)), np.full((6, 7), 2.0)], -1)
    _, clouds = as_clouds(image)
    assert len(clouds) == 6 and clouds[0].notes == (
        "(6, 7, 3) taken for 6 clouds: if it is one organized cloud, give xyz.reshape(-1, 3)",
    )
    assert not as_clouds(np.random.default_rng(0).normal(size=(6, 7, 3)))[1][0].notes


def test_points_of_objects_without_a_position_are_dropped():
    missing = XYZ.copy()
    missing[3] = np.nan
    data = pytest.importorskip("torch_geometric.data").Data(pos=torch.tensor(missing), rgb=torch.tensor(RGB))
    for given in (missing, torch.tensor(missing), data, trimesh.PointCloud(missing), pandas.DataFrame(missing)):
        (cloud,) = as_clouds(given)[1]
        assert np.array_equal(cloud.xyz, np.delete(XYZ, 3, 0)) and cloud.num_original == 12
