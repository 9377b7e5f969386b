"""The procedural objects: their solids by hand, and the guarantees of the data set."""

import numpy as np
import pytest
import torch

from bixt3d.datasets.files.surface import Mesh, sample_surface
from bixt3d.datasets.shapes import primitives
from bixt3d.datasets.shapes.primitives import box, cylinder, ellipsoid, extrude, lathe, spline, tube
from bixt3d.datasets.shapes.shapes import CLASS_NAMES, CLASS_PARTS, PART_NAMES, RECIPES, Shapes, make_shape
from bixt3d.types import InputError


def sampled(mesh: Mesh, num_points: int = 2000):
    xyz, normals, _ = sample_surface([mesh], num_points, np.random.default_rng(0))
    return xyz, normals


def surface_area(mesh: Mesh) -> float:
    first, second, third = mesh.corners.transpose(1, 0, 2)
    return np.linalg.norm(np.cross(second - first, third - first), axis=1).sum() / 2


@pytest.fixture(scope="module", autouse=True)
def shapes_made_anew():
    """Make every set anew: other tests share them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shapes, "_make", Shapes._make.__wrapped__)
        yield


@pytest.fixture(scope="module")
def small_sets():
    return Shapes(train_per_class=12, test_per_class=2, num_points=256, features="normal").load()


def test_points_of_a_box_lie_on_its_faces_and_their_normals_name_the_face():
    xyz, normals = sampled(box(2, 4, 6).moved(y=-2))  # centred, faces at 1, 2 and 3
    axis = np.abs(normals).argmax(axis=1)
    sign = np.take_along_axis(normals, axis[:, None], 1)[:, 0]
    np.testing.assert_allclose(np.abs(sign), 1)
    np.testing.assert_allclose(np.take_along_axis(xyz, axis[:, None], 1)[:, 0], sign * np.array([1, 2, 3])[axis])
    assert (np.abs(xyz) <= np.array([1, 2, 3]) + 1e-9).all()


def test_faces_of_a_box_get_points_in_proportion_to_their_areas():
    _, normals = sampled(box(1, 2, 3))
    faces = np.bincount(np.abs(normals).argmax(axis=1), minlength=3) / 2000
    np.testing.assert_allclose(faces, np.array([6, 3, 2]) / 11, atol=0.01)


def test_points_within_one_face_are_uniform():
    xyz, normals = sampled(box(1, 1, 1), 6000)
    top = xyz[normals[:, 1] > 0.9]
    quarters = np.bincount(2 * (top[:, 0] > 0) + (top[:, 2] > 0), minlength=4) / len(top)
    np.testing.assert_allclose(quarters, 0.25, atol=0.05)


@pytest.mark.parametrize(
    ("mesh", "inside"),
    [
        (box(1, 2, 3, taper=0.5), (0, 1, 0)),
        (cylinder(1, 2), (0, 1, 0)),
        (cylinder(1, 2, top=0), (0, 0.5, 0)),
        (ellipsoid(1, 2, 3), (0, 0, 0)),
        (ellipsoid(1, 2, 3, squareness=0.8), (0, 0, 0)),
        (tube([(0, 0, 0), (1, 0.2, 0)], [0.1, 0.3]), (0.5, 0.1, 0)),
        (tube([(0, 0, 0), (0, 1, 0)], 0.1, sides=4), (0, 0.5, 0)),
        (extrude([(0, 0), (1, 0), (1, 1), (0, 1)], 0.3), (0.5, 0.5, 0)),
        (extrude([(0, 0), (0, 1), (1, 1), (1, 0)], 0.3), (0.5, 0.5, 0)),
    ],
)
def test_normals_of_convex_solids_are_of_length_one_and_point_outward_also_after_moving_them(mesh, inside):
    for turned, middle in ((mesh, np.array(inside)), (mesh.turned("x", 40).stretched(x=-1, y=2), None)):
        xyz, normals = sampled(turned)
        middle = turned.corners.mean(axis=(0, 1)) if middle is None else middle
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
        assert (((xyz - middle) * normals).sum(axis=1) > 0).all()


def test_normals_are_square_to_the_triangles_of_flat_solids():
    for mesh in (
        box(1, 2, 3, 0.5),
        extrude([(0, 0), (2, 0), (0, 1)], 1).stretched(y=3),
        tube([(0, 0, 0), (0, 1, 1)], 1, 4),
    ):
        edges = mesh.corners[:, 1:] - mesh.corners[:, :1]
        np.testing.assert_allclose(np.einsum("tka,ta->tk", edges, mesh.normals[:, 0]), 0, atol=1e-9)


def test_areas_of_solids_are_those_of_geometry():
    assert surface_area(box(1, 2, 3)) == pytest.approx(22)
    assert surface_area(cylinder(1, 2)) == pytest.approx(6 * np.pi, rel=0.02)
    assert surface_area(ellipsoid(2, 2, 2)) == pytest.approx(4 * np.pi, rel=0.03)
    assert surface_area(primitives.torus(1, 0.2)) == pytest.approx(4 * np.pi**2 * 0.2, rel=0.04)
    assert surface_area(tube([(0, 0, 0), (0, 0, 5)], 0.1, sides=40)) == pytest.approx(1.02 * np.pi, rel=0.02)


def test_the_wall_of_a_sleeve_has_an_outside_and_an_inside():
    xyz, normals = sampled(primitives.sleeve(1.0, 1.0, 2.0, thickness=0.1))
    wall = np.abs(normals[:, 1]) < 0.5
    radius = np.hypot(xyz[:, 0], xyz[:, 2])[wall]
    outward = (xyz * normals)[wall][:, [0, 2]].sum(axis=1)
    assert (np.sign(outward) == np.where(radius > 0.95, 1, -1)).all()
    assert 0.45 < (radius < 0.95).mean() < 0.5


def test_a_lathe_bends_its_normals_smoothly_but_keeps_sharp_edges():
    mesh = lathe([(0, 0), (1, 0), (1, 1), (0.9, 2)])
    heights = {
        tuple(np.round((y, normal[1]), 3))
        for y, normal in zip(mesh.corners[..., 1].ravel(), mesh.normals.reshape(-1, 3), strict=True)
    }
    assert heights == {(0, -1), (0, 0), (1, 0.05), (2, 0.1)}


def test_a_spline_passes_through_its_points_and_a_closed_one_returns():
    points = [(0, 0), (1, 0), (1, 1), (0, 1)]
    np.testing.assert_allclose(spline(points, 7)[::2], points)
    np.testing.assert_allclose(spline(points, 9, closed=True)[::2], [*points, points[0]])


def test_a_small_mesh_keeps_its_least_share_of_the_points():
    _, _, index = sample_surface([box(1, 1, 1), box(0.01, 0.01, 0.01)], 1000, np.random.default_rng(0))
    assert 15 <= (index == 1).sum() <= 25


def test_the_same_seed_makes_the_same_sets_and_another_seed_others():
    first, again, other = (Shapes(2, 1, seed=seed, num_points=64).load() for seed in (3, 3, 4))
    for one, two, three in zip(first, again, other, strict=True):
        assert torch.equal(one.xyz, two.xyz) and torch.equal(one.parts, two.parts)
        assert not torch.isclose(one.xyz, three.xyz).all(dim=(1, 2)).any()


def test_an_object_does_not_depend_on_how_many_are_made():
    few, many = Shapes(1, 1, num_points=64).load(), Shapes(3, 2, num_points=64).load()
    assert torch.equal(few[0].xyz, many[0].xyz[::3])
    assert torch.equal(few[1].xyz, many[1].xyz[::2])


def test_no_two_objects_of_training_and_test_are_the_same(small_sets):
    clouds = torch.cat([clouds.xyz.sort(dim=1).values.flatten(1) for clouds in small_sets])
    distance = torch.cdist(clouds, clouds) + torch.eye(len(clouds)) * 1e3
    assert distance.min() > 0.1


def test_clouds_are_centred_in_the_unit_sphere_and_normals_have_length_one(small_sets):
    for clouds in small_sets:
        torch.testing.assert_close(clouds.xyz.mean(dim=1), torch.zeros(len(clouds), 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(clouds.xyz.norm(dim=2).amax(dim=1), torch.ones(len(clouds)))
        torch.testing.assert_close(clouds.feats.norm(dim=2), torch.ones(len(clouds), 256))


def test_labels_and_parts_fit_together(small_sets):
    for clouds, per_class in zip(small_sets, (12, 2), strict=True):
        assert clouds.label.tolist() == [label for label in range(len(CLASS_NAMES)) for _ in range(per_class)]
        for label, parts in zip(clouds.label.tolist(), clouds.parts, strict=True):
            category = clouds.class_names[label]
            assert set(parts.tolist()) <= set(clouds.class_parts[category])
            assert all(clouds.part_names[part].startswith(f"{category}/") for part in parts.unique().tolist())


def test_every_part_occurs_in_the_training_set_and_belongs_to_one_category(small_sets):
    assert small_sets[0].parts.unique().tolist() == list(range(len(PART_NAMES)))
    assert [part for category in CLASS_NAMES for part in CLASS_PARTS[category]] == list(range(len(PART_NAMES)))


def test_recipes_name_no_part_that_the_table_of_categories_leaves_out():
    for recipe, parts in RECIPES.values():
        made = {name for seed in range(20) for name in recipe(np.random.default_rng(seed))}
        assert made == set(parts)


def test_the_first_points_of_a_cloud_are_a_uniform_sample_of_it():
    _, _, parts = make_shape("table", 4096, np.random.default_rng(1))
    first, all_of_them = (np.bincount(some, minlength=len(PART_NAMES)) / len(some) for some in (parts[:1024], parts))
    np.testing.assert_allclose(first, all_of_them, atol=0.05)


def test_objects_are_upright():
    seat, back = (PART_NAMES.index(name) for name in ("chair/seat", "chair/back"))
    for seed in range(10):
        xyz, _, parts = make_shape("chair", 512, np.random.default_rng(seed))
        assert xyz[parts == back, 1].mean() > xyz[parts == seat, 1].mean()
        assert xyz[parts == back, 2].mean() < xyz[parts == seat, 2].mean()


def test_full_clouds_are_the_test_objects():
    source = Shapes(1, 2, num_points=64, features="normal")
    test = source.load()[1]
    xyz, feats, parts = (torch.stack(column) for column in zip(*source.full_clouds(), strict=True))
    assert torch.equal(xyz, test.xyz) and torch.equal(feats, test.feats) and torch.equal(parts, test.parts)


def test_feats_are_empty_unless_normals_are_asked_for(small_sets):
    train, _ = Shapes(12, 2, num_points=256).load()
    assert train.feats.shape == (12 * len(CLASS_NAMES), 256, 0)
    assert torch.equal(train.xyz, small_sets[0].xyz)


def test_wrong_settings_stop_with_a_sentence():
    with pytest.raises(InputError, match="did you mean 'chair'"):
        make_shape("chiar", 64, np.random.default_rng(0))
    with pytest.raises(InputError, match="num_points must be positive, not 0"):
        make_shape("chair", 0, np.random.default_rng(0))
    with pytest.raises(InputError, match="test_per_class must be positive"):
        Shapes(test_per_class=0)
    with pytest.raises(InputError, match="seed must not be negative"):
        Shapes(seed=-1)


def test_the_materials_of_an_object_depend_on_its_place_alone():
    few, many = (Shapes(count, 1, num_points=32, features="rgb,intensity").load()[0] for count in (1, 3))
    assert torch.equal(few.feats, many.feats[::3]) and not torch.equal(many.feats[0], many.feats[1])
