"""Scenes: voxels and the way back, crops, folders, procedural rooms."""

import numpy as np
import pytest
import torch
import trimesh

from bixt3d.datasets import Rooms, SceneFolder
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.scenes.computed import compress, note_columns
from bixt3d.datasets.scenes.crops import SceneSet, local_positions, nearest_voxels
from bixt3d.datasets.scenes.folder import read_scene_file, split_files, unread_of
from bixt3d.datasets.scenes.heights import heights, local_floors, valley_heights
from bixt3d.datasets.scenes.mix import mix_scenes
from bixt3d.datasets.scenes.noise import scatter_scenes
from bixt3d.datasets.scenes.relief import CONES, hills, raise_scenes
from bixt3d.datasets.scenes.room_layout import CLASSES
from bixt3d.datasets.scenes.rooms import make_room_cloud
from bixt3d.datasets.scenes.scanner import visible_points
from bixt3d.datasets.scenes.scene import MADE, make_scene
from bixt3d.datasets.scenes.strays import stray_points
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.inference.windows import scene_probabilities
from bixt3d.types import Features, InputError

RGB = Features.parse("rgb,height")


def cloud(number: int = 2000, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    xyz = rng.random((number, 3)) * (10, 8, 3)
    return xyz, {"rgb": rng.random((number, 3))}, (xyz[:, 2] > 1).astype(np.int64)


def scene(seed: int = 0, size: float = 0.5):
    return make_scene(*cloud(seed=seed), RGB, size)


def scenes(**settings) -> SceneSet:
    return SceneSet((scene(0), scene(1)), ("low", "high"), RGB, **{"num_points": 64, "crops": 10} | settings)


def test_every_point_finds_its_voxel_and_its_own_label():
    xyz, columns, label = cloud()
    made = make_scene(xyz, columns, label, RGB, 0.5)
    distance = np.abs(made.xyz[made.inverse.long()].numpy() - (xyz - xyz.min(0)))
    assert distance.max() < 0.5
    assert made.point_label.tolist() == label.tolist()
    assert (made.label[made.inverse.long()] == made.point_label).float().mean() > 0.9


def test_a_scene_at_map_coordinates_is_the_same_scene():
    xyz, columns, label = cloud()
    xyz = xyz.round(3)
    near, far = (make_scene(xyz + shift, columns, label, RGB, 0.5) for shift in (0, np.array([500_000, 5_000_000, 99])))
    assert all(torch.equal(one, far.tensors()[name]) for name, one in near.tensors().items())


def test_one_point_far_away_leaves_the_positions_of_a_crop_as_they_are():
    xyz, columns, label = cloud()
    more = {"rgb": np.concatenate([columns["rgb"], np.ones((1, 3))])}
    far = make_scene(np.concatenate([xyz, [[-700_000, -6_600_000, 0]]]), more, np.append(label, 0), RGB, 0.5)
    crops = [
        SceneSet((one,), ("a", "b"), RGB).crop((0, len(one) - 5), 50)
        for one in (make_scene(xyz, columns, label, RGB, 0.5), far)
    ]
    assert crops[1].xyz.dtype == torch.float32 and torch.allclose(crops[0].xyz, crops[1].xyz, atol=1e-5)
    assert torch.equal(crops[0].feats[:, :3], crops[1].feats[:, :3])


def none(points: torch.Tensor) -> torch.Tensor:
    """Return the mask of no stray points."""
    return torch.zeros(len(points), dtype=torch.bool)


def test_height_is_above_the_lowest_points_near_by():
    xyz = torch.tensor([[0.0, 0, 5], [0.5, 0, 7], [1.2, 0, 6], [30, 0, 100], [30, 0.1, 103]])
    assert heights(xyz, none(xyz), 1.0).tolist() == [0, 2, 1, 0, 3]


def ground(slope: float) -> torch.Tensor:
    """Return a grid of points, 20 x 20 cells of side 1, on a plane that rises with x."""
    x, y = torch.meshgrid(torch.arange(0, 20, 0.1), torch.arange(0, 20, 0.1), indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), slope * x.flatten()], 1).double() + 0.05


def test_scenes_that_are_made_otherwise_have_another_number_in_their_caches():
    one = make_scene(*cloud(), RGB, 0.5)
    sums = [float(tensor.double().sum()) for tensor in (one.xyz, one.feats, one.floor, one.label)]
    assert (MADE, len(one)) == (8, 1243)  # if a figure here changes, raise MADE
    assert sums == pytest.approx([13037.112, 3514.85, 175.954, 817.0], rel=1e-5)


def test_the_floor_follows_a_slope():
    xyz = ground(0.6)
    inside = ((xyz[:, :2] > 3) & (xyz[:, :2] < 17)).all(1)
    found = heights(xyz, none(xyz), 1.0)[inside]
    assert found.amax() - found.amin() < 1e-4 and found.abs().amax() < 0.6  # of the slope across half a cell


def test_the_floor_is_below_objects_and_above_stray_points():
    xyz = ground(0.0)
    table = ((xyz[:, :2] > 8.2) & (xyz[:, :2] < 9.8)).all(1)
    xyz[table, 2] += 2
    xyz[::61, 2] -= 30
    found = heights(xyz, none(xyz), 1.0)
    assert found.round(decimals=6).unique().tolist() == [-30, -28, 0, 2]
    assert bool((found[table] >= -28).all()) and (found > 1.9).sum() > 200


def test_many_scattered_points_below_the_ground_do_not_lower_the_floor():
    xyz = ground(0.3)
    noise = torch.rand(len(xyz), generator=torch.Generator().manual_seed(0)) < 0.1
    clean = heights(xyz, none(xyz), 1.0)
    xyz[noise, 2] -= 1 + 99 * torch.rand(int(noise.sum()), generator=torch.Generator().manual_seed(1))
    found = heights(xyz, none(xyz), 1.0)
    assert (found - clean)[~noise].abs().amax() < 0.1 and found[noise].amax() < -0.5


def test_points_with_few_near_them_and_many_above_or_below_are_stray():
    xyz = ground(0.3)
    tree = xyz[((xyz[:, :2] - 10).square().sum(1) < 4)] + torch.tensor([0, 0, 6.0])
    crown = torch.cat([tree + torch.tensor([0, 0, 0.4 * k]) for k in range(9)])
    alone = torch.tensor([[5.0, 5, -9], [5, 5.1, -9], [12, 5, 40], [15, 15, -60]])
    aside = torch.tensor([[-30.0, 0, -9], [30, 90, 50]])  # nothing above or below tells
    points = torch.cat([alone, xyz, crown, aside])
    assert stray_points(points, 1.0).nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert stray_points(points[:4], 1.0).sum() == 0


@pytest.mark.parametrize("number", [1, 40, 3000])
def test_stray_points_are_counted_in_nine_by_nine_columns_and_three_layers(number):
    points = torch.randn(number, 3, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([9, 9, 4])
    points[::50] *= 7
    cells = (points / 1.5).floor()
    away = (cells[:, None] - cells).abs()
    column = (away[..., :2] <= 4).all(2)
    expected = (column & (away[..., 2] <= 1)).sum(1) <= 0.02 * column.sum(1)
    assert torch.equal(stray_points(points, 1.5), expected) and (number < 3000 or 30 < expected.sum() < 1000)


def test_computed_heights_of_a_strip_with_noise_above_and_below_are_those_of_the_strip_alone():
    xyz, grid = ground(0.3), 0.25
    xyz = xyz[(xyz[:, 1] > 9) & (xyz[:, 1] < 11)]
    draw = torch.rand(150, 3, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([19.0, 10, 150])
    noise = draw + torch.tensor([0.5, 5, -90])
    noise = noise[(noise[:, 2] - 0.3 * noise[:, 0]).abs() > 6]
    features, both = Features.parse("height,log_height:2,local_height:2"), torch.cat([xyz, noise])
    alone, noisy = (
        make_scene(one.numpy(), {}, np.zeros(len(one), np.int64), features, grid, origin=np.zeros(3))
        for one in (xyz, both)
    )
    own = alone.feats[alone.inverse.long()]
    found = noisy.feats[noisy.inverse.long()][: len(xyz)]
    inside = (xyz[:, 0] > 3) & (xyz[:, 0] < 17)
    assert (found - own)[inside].abs().amax() < 0.05


def test_local_heights_are_above_the_lowest_points_near_by_and_spread_small_ones():
    xyz, grid = ground(0.3), 0.25
    bush = (xyz[:, :2] - 10).abs().amax(1) < 0.5
    xyz[bush, 2] += torch.rand(int(bush.sum()), generator=torch.Generator().manual_seed(0)).double()
    made = make_scene(xyz.numpy(), {}, np.zeros(len(xyz), np.int64), Features.parse("local_height:2"), grid)
    inside = ((made.xyz[:, :2] - 10).abs() < 3).all(1)
    near, wide = (made.feats.sign() * made.feats.abs().expm1() / 5 * grid)[inside].T
    above = (made.xyz[:, 2] - 0.3 * made.xyz[:, 0])[inside].numpy()
    assert near == pytest.approx(above + 0.3 * 0.5, abs=0.07)  # the lowest point is half a cell down
    assert wide == pytest.approx(above + 0.3 * 1, abs=0.07)
    assert (compress(torch.tensor([0.0, -0.4, 2, 50]), 2.0).abs().expm1() / 5).tolist() == pytest.approx([0, 0.2, 1, 6])


def test_log_heights_are_above_the_floor_and_above_the_lowest_ground_around():
    xyz, grid = ground(0.0), 0.25
    xyz[xyz[:, 0] < 5, 2] -= 2
    noise = torch.rand(len(xyz), generator=torch.Generator().manual_seed(0)) < 0.002
    xyz[noise, 2] -= 9 + 99 * torch.rand(int(noise.sum()), generator=torch.Generator().manual_seed(1))
    made = make_scene(xyz.numpy(), {}, np.zeros(len(xyz), np.int64), Features.parse("height,log_height:2"), grid)
    x, above, log_above, log_valley = made.xyz[:, 0], *made.feats.T
    assert torch.allclose(log_above, compress(above, grid), atol=1e-4)
    for places, to_floor, to_valley in (((7.6, 8.7), 0, 2), ((15.5, 20), 0, 0), ((0, 2), 0, 0)):
        there = (x > places[0]) & (x < places[1]) & (made.xyz[:, 2] > made.xyz[:, 2].amax() - 3)
        assert above[there].numpy() == pytest.approx(to_floor, abs=1e-3)
        assert (log_valley[there].expm1() / 5 * grid).numpy() == pytest.approx(to_valley, abs=1e-3)


def test_a_stray_point_beside_a_scene_is_not_its_lowest_ground():
    xyz = torch.cat([ground(0.0), torch.tensor([[-0.5, 10.0, -50.0], [20.5, 10.0, -50.0]])])
    above = valley_heights(xyz, none(xyz), 3.5)
    assert above[:-2].abs().amax() < 1e-6 and above[-2:].amax() < -49


def test_a_computed_feature_of_another_width_is_refused():
    sentence = r"the scene has no local_height: write local_height:2, which is computed, not local_height"
    with pytest.raises(InputError, match=sentence):
        make_scene(*cloud(), Features.parse("local_height"), 0.5)


def test_a_column_of_a_file_replaces_a_computed_feature():
    xyz, _, label = cloud()
    columns = {"height": np.full((len(xyz), 1), 7.0), "local_height_0": xyz[:, :1], "local_height_1": xyz[:, 1:2]}
    made = make_scene(xyz, columns, label, Features.parse("height,local_height:2"), 0.5)
    assert made.feats[:, 0].unique().tolist() == [7]
    assert torch.allclose(made.feats[:, 1:], made.xyz[:, :2] + torch.from_numpy(xyz.min(0)[:2]).float(), atol=1e-5)


def test_a_note_says_which_computed_features_come_from_the_file():
    features = Features.parse("height,log_height:2")
    given = Cloud(np.zeros((2, 3)), {"height": np.zeros((2, 1)), "other": np.zeros((2, 1))}, "a.las")
    assert note_columns(given, features).notes == ("height taken from the file, not computed",)
    assert note_columns(given, Features.parse("log_height:2")).notes == ()


def test_a_column_of_another_width_is_not_taken_for_a_computed_feature():
    (xyz, columns, label), features = cloud(), Features.parse("planarity:2,rgb")
    wide = columns | {"Planarity": np.full((len(xyz), 1), 7.0)}
    made = [make_scene(xyz, given, label, features, 0.5).feats for given in (columns, wide)]
    assert torch.equal(*made) and made[0][:, 0].unique().numel() > 100
    given = note_columns(Cloud(xyz, wide, "a.las"), features)
    assert given.notes == ("planarity computed, as the columns of the file have another width",)


def test_scenes_are_drawn_by_their_number_of_voxels_or_points_or_all_alike():
    rng = np.random.default_rng(0)
    xyz = [rng.random((number, 3)) * 4 for number in (3000, 1000)]  # as many voxels, three times as many points
    label = [(one[:, 2] > 3.9).astype(np.int64) for one in xyz]
    pair = tuple(make_scene(*one, Features(), 1.0) for one in zip(xyz, [{}, {}], label, strict=True))
    for balance, draw, share in ((0.0, "points", 0.25), (1.0, "points", 0.25), (0.0, "voxels", 0.5)):
        made = SceneSet(pair, ("low", "high"), num_points=8, crops=10, balance=balance, draw=draw)
        assert np.mean([made.draw_center(0, i)[0] for i in range(400)]) == pytest.approx(share, abs=0.08)
    high = [(one[:, 2] > 3).astype(np.int64) for one in xyz]
    large = make_scene(xyz[0] * 2, {}, high[0], Features(), 1.0)  # eight times as many voxels, as much of it high
    small = make_scene(xyz[1], {}, high[1], Features(), 1.0)
    for balance, draw, share in ((0.0, "scenes", 0.5), (1.0, "scenes", 0.5), (0.0, "voxels", 0.11)):
        made = SceneSet((large, small), ("low", "high"), num_points=8, crops=10, balance=balance, draw=draw)
        assert np.mean([made.draw_center(0, i)[0] for i in range(400)]) == pytest.approx(share, abs=0.08)


def test_a_crop_is_the_nearest_voxels_of_its_center_seen_from_the_floor_below_it():
    from scipy.spatial.distance import cdist

    for shape, axes in (("sphere", 3), ("cylinder", 2)):
        made = scenes(shape=shape)
        place, center = made.draw_center(5, 3)
        crop, whole = made.crop((place, center), 64), made.scenes[place]
        distance = cdist(whole.xyz[center : center + 1, :axes].double(), whole.xyz[:, :axes].double())[0]
        expected = np.sort(distance)[:64]
        found = (crop.xyz[:, :axes] * whole.grid).double()
        lift = whole.xyz[center, 2] - whole.floor[center]
        found = found - torch.tensor([0, 0, lift])[:axes]
        np.testing.assert_allclose(np.sort(found.norm(dim=1)), expected, atol=1e-5)


def test_crops_depend_on_seed_and_index_alone():
    made = scenes()
    (one,) = made.batches([torch.tensor([3, 4])], 7)
    (other,) = made.batches([torch.tensor([4])], 7)
    assert torch.equal(one["xyz"][1], other["xyz"][0]) and torch.equal(one["labels"][1], other["labels"][0])
    (third,) = made.batches([torch.tensor([4])], 8)
    assert not torch.equal(third["xyz"], other["xyz"])


def test_batches_of_larger_crops_have_fewer_of_them():
    made, planned = scenes(num_points=(16, 64)), [4, 6] * 3
    for uncounted in (0, 1):  # the crop before a batch, for a mix
        plan = [[torch.arange(count + uncounted)] for count in planned]
        fewer = [index for (index,) in made.with_fewer_crops(plan, 5, uncounted)]
        shapes = [batch["xyz"].shape for batch in made.batches(fewer, 5)]
        sizes = [size for _, size, _ in shapes]
        assert set(sizes[:3]) == set(sizes[3:]) == {16, 32, 64}
        expected = [count * 16 // size + uncounted for count, size in zip(planned, sizes, strict=True)]
        assert [count for count, *_ in shapes] == expected == [len(index) for index in fewer]


def test_the_size_of_crops_depends_on_seed_and_number_of_the_batch_alone():
    made = scenes(num_points=(16, 64))
    sizes = [[made.draw_size(seed, number) for number in range(60)] for seed in (1, 1, 2)]
    assert sizes[0] == sizes[1] != sizes[2]
    (one,) = made.batches([torch.tensor([3])], 7)
    assert one["xyz"].shape[1] == made.draw_size(7, 0)


def test_crops_of_one_size_keep_their_plan():
    fewer = scenes().with_fewer_crops([[torch.arange(3)], [torch.arange(4)]], 5)
    assert [[len(index) for index in step] for step in fewer] == [[3], [4]]


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        (0, "data.num_points must be positive, not 0"),
        ((64, 16), "the second number of data.num_points must be 64, 128, 256 ..., not 16"),
        ((64, 100), "not 100"),
    ],
)
def test_other_sizes_of_crops_are_refused(sizes, sentence: str):
    with pytest.raises(InputError, match=sentence):
        Rooms(num_points=sizes)


def test_windows_of_a_crop_are_windows_of_its_scene():
    xyz, columns, label = cloud(20_000)
    xyz[:, 2] += 3 * xyz[:, 0]  # on a slope, where each voxel has its own floor
    whole = make_scene(xyz, columns, label, RGB, 0.5)
    crop = SceneSet((whole,), ("low", "high"), RGB).crop((0, 700), 400)
    index = nearest_voxels(whole, 700, 400, "sphere")
    for center in (0, 30, 399):
        expected = local_positions(whole, index, int(index[center]))
        assert torch.allclose(local_positions(crop, np.arange(400), center), expected, atol=1e-4)


def test_a_small_scene_is_repeated_to_fill_a_crop():
    made = SceneSet((make_scene(*cloud(20), RGB, 0.1),), ("low", "high"), RGB, num_points=64, crops=1)
    (batch,) = made.batches([torch.tensor([0])], 0)
    assert batch["xyz"].shape == (1, 64, 3) and len(batch["xyz"][0].unique(dim=0)) == 20


def test_balanced_centers_come_from_all_classes_alike():
    xyz, columns, _ = cloud(5000)
    label = np.zeros(5000, np.int64)
    label[:25] = 1
    one = make_scene(xyz, columns, label, RGB, 0.02)
    rates = {}
    for balance in (0.0, 1.0):
        made = SceneSet((one,), ("common", "rare"), RGB, 8, 10, balance=balance)
        rates[balance] = np.mean([int(one.label[made.draw_center(0, i)[1]]) for i in range(300)])
    assert rates[0.0] < 0.05 and 0.4 < rates[1.0] < 0.6


class Copies(torch.nn.Module):
    """Answers with the color of each voxel: windows of any size must agree."""

    def forward(self, xyz: torch.Tensor, feats: torch.Tensor) -> torch.Tensor:
        return 10 * feats[..., :3]


@pytest.mark.parametrize("shape", ["sphere", "cylinder"])
def test_windows_cover_every_voxel_and_agree_with_one_pass_where_the_model_sees_only_the_voxel(shape):
    made = scene()
    whole = scene_probabilities(Copies(), made, len(made), shape)
    done = []
    in_windows = scene_probabilities(Copies(), made, 100, shape, progress=done.append)
    torch.testing.assert_close(in_windows, whole)
    assert sum(done) == len(made)
    torch.testing.assert_close(whole, (10 * made.feats[:, :3]).softmax(1))


@pytest.mark.parametrize("shape", ["sphere", "cylinder"])
def test_a_window_has_its_center_and_windows_cover_a_mast_with_more_voxels_than_a_window(shape):
    mast = np.column_stack([np.full((40, 2), 0.5), np.arange(40) + 0.5])
    ground = np.column_stack([np.indices((10, 10)).reshape(2, -1).T + 0.5, np.full(100, 0.5)])[1:]
    xyz = np.concatenate([mast, ground])
    made = make_scene(xyz, {"rgb": np.random.default_rng(0).random((139, 3))}, np.zeros(139, int), RGB, 1.0)
    for center in range(len(made)):
        index = nearest_voxels(made, center, 16, shape)
        assert center in index and len(set(index)) == 16
    torch.testing.assert_close(scene_probabilities(Copies(), made, 16, shape), (10 * made.feats[:, :3]).softmax(1))


class Place(torch.nn.Module):
    """Answers with positions: turned views must differ, and their mean over a full turn must not."""

    features = RGB

    def forward(self, xyz: torch.Tensor, feats: torch.Tensor) -> torch.Tensor:
        return torch.stack([xyz[..., 0], -xyz[..., 0], xyz[..., 2]], 2)


def test_votes_average_turns_about_the_vertical_axis():
    made = scene()
    one, two, four = (scene_probabilities(Place(), made, len(made), "sphere", votes=votes) for votes in (1, 2, 4))
    torch.testing.assert_close(two[:, 0], two[:, 1])  # x and -x
    assert (one - two).abs().max() > 0.1 and (two - four).abs().max() > 0.1


def test_models_read_positions_in_voxels():
    xyz, columns, label = cloud()
    small, large = (
        SceneSet((make_scene(xyz * size, columns, label, Features.parse("rgb"), size),), ("a", "b"), num_points=32)
        for size in (0.5, 2.0)
    )
    (one,), (other,) = (made.batches([torch.tensor([0, 1])], 3) for made in (small, large))
    torch.testing.assert_close(one["xyz"], other["xyz"], rtol=0, atol=1e-4)
    assert torch.equal(one["labels"], other["labels"])


def test_stray_points_far_above_are_read_at_the_largest_height():
    xyz, columns, label = cloud()
    xyz[0, 2] = 1e4
    stray = SceneSet((make_scene(xyz, columns, label, RGB, 0.5),), ("a", "b"), RGB, num_points=10**4, crops=1)
    (batch,) = stray.batches([torch.tensor([0])], 0)
    assert batch["xyz"][..., 2].amax() == 256 and batch["feats"][..., 3].amax() == 128


def crops(count: int = 3) -> dict[str, torch.Tensor]:
    xyz = torch.rand(count, 10, 3) + torch.arange(10)[:, None]  # each point farther from the axis than the one before
    number = torch.arange(count * 10).view(count, 10)
    return {"xyz": xyz, "feats": number[..., None].float(), "labels": number, "index": torch.arange(count)}


def log_and_local_heights(points: torch.Tensor, stray: torch.Tensor | None = None) -> torch.Tensor:
    stray = none(points) if stray is None else stray
    floors = local_floors(points, points[:, 2], stray, 4.0)
    local = compress(points[:, 2:] - torch.stack(floors, 1), 1.0)
    valley = compress(valley_heights(points, stray, 14.0), 1.0, 60.0)
    return torch.cat([compress(heights(points, stray, 10.0), 1.0)[:, None], valley[:, None], local], 1)


@pytest.mark.parametrize("tallest", [5.0, 30.0])
def test_some_crops_are_laid_over_hills_with_heights_above_them(tallest):
    x, y = torch.meshgrid(torch.arange(-20.0, 20), torch.arange(-20.0, 20), indexing="ij")
    tall = tallest * ((x.abs() < 3) & (y.abs() < 3))  # a building on flat ground, under the center
    xyz, height = torch.stack([x, y, tall], -1).view(1, -1, 3), tall.view(1, -1, 1)
    feats = torch.cat([torch.ones_like(height), 0.5 * height, log_and_local_heights(xyz[0])[None]], 2)
    batch = {"xyz": xyz.repeat(40, 1, 1), "feats": feats.repeat(40, 1, 1), "index": torch.arange(40)}
    features, draws = Features.parse("intensity,height,log_height:2,local_height:2"), Draws(batch["index"], "relief")
    raised = raise_scenes(batch, 30.0, features, 0.5, draws)
    changed = (raised["xyz"] != batch["xyz"]).flatten(1).any(1)
    assert changed.tolist() == (draws.uniform("raised") < 0.3).tolist() and 5 < changed.sum() < 20
    assert raised["feats"][~changed].equal(batch["feats"][~changed])
    assert raised["xyz"][..., :2].equal(batch["xyz"][..., :2]) and bool((raised["feats"][..., 0] == 1).all())
    center = xyz[0, :, :2].square().sum(1).argmin()
    for i in changed.nonzero().flatten().tolist():
        risen = raised["xyz"][i, :, 2] - xyz[0, :, 2]
        cones = draws.uniform("cones", 4 * CONES)[i].view(CONES, 4)
        expected = 30 * draws.uniform("relief")[i] * hills(xyz[0, :, :2], cones)
        assert torch.allclose(risen - risen[0], expected - expected[0], atol=1e-4)
        above = heights(raised["xyz"][i], none(xyz[0]), 10.0)
        assert torch.allclose(2 * raised["feats"][i, :, 1], above, atol=1e-4)
        logs, near = raised["feats"][i, :, 2:].split([2, 2], 1)
        expected_logs, expected_near = log_and_local_heights(raised["xyz"][i]).split([2, 2], 1)
        assert torch.allclose(logs, expected_logs, atol=1e-3)
        assert torch.allclose(near, expected_near, atol=1e-3) or tallest > 5 and near.min() > -2
        assert raised["xyz"][i, center, 2] == pytest.approx(above[center].item(), abs=1e-4)


def test_heights_that_a_file_has_change_as_much_as_those_that_are_computed():
    x, y = torch.meshgrid(torch.arange(-20.0, 20), torch.arange(-20.0, 20), indexing="ij")
    features, index = Features.parse("height"), torch.arange(40)
    own = 350 + 0.02 * torch.arange(1600.0)[:, None]  # above the sea, beyond the largest computed height
    batch = {"xyz": torch.stack([x, y, 0 * x], -1).view(-1, 3).repeat(40, 1, 1), "index": index}
    computed, read = (
        raise_scenes(batch | {"feats": feats.repeat(40, 1, 1)}, 30.0, features, 0.5, Draws(index, "relief"))["feats"]
        for feats in (torch.zeros(1600, 1), own)
    )
    assert torch.allclose(own + computed, read, atol=1e-3) and computed.abs().amax() > 1


def test_stray_points_under_a_crop_do_not_count_on_hills_either():
    x, y = torch.meshgrid(torch.arange(-20.0, 20), torch.arange(-20.0, 20), indexing="ij")
    flat = torch.stack([x, y, 0 * x], -1).view(-1, 3)
    crop = torch.cat([flat, torch.tensor([[-9.3, 4, -90], [3, 8.7, -150], [11, -6, -60]])])
    feats = torch.cat([torch.zeros(len(crop), 1), log_and_local_heights(flat)[[*range(1600), 0, 0, 0]]], 1)
    features, index = Features.parse("height,log_height:2,local_height:2"), torch.arange(40)
    batch = {"xyz": crop.repeat(40, 1, 1), "feats": feats.repeat(40, 1, 1), "index": index}
    raised = raise_scenes(batch, 10.0, features, 1.0, Draws(index, "relief"))
    changed = (raised["xyz"] != batch["xyz"]).flatten(1).any(1).nonzero().flatten().tolist()
    assert len(changed) > 5
    for i in changed:
        alone = raised["xyz"][i, :1600]
        expected = torch.cat([heights(alone, none(alone), 10.0)[:, None], log_and_local_heights(alone)], 1)
        assert torch.allclose(raised["feats"][i, :1600], expected, atol=1e-3)


def test_some_points_of_some_crops_become_noise_without_labels():
    x, y = torch.meshgrid(torch.arange(-20.0, 20), torch.arange(-20.0, 20), indexing="ij")
    flat = torch.stack([x, y, 0 * x], -1).view(-1, 3)
    feats = torch.cat([torch.ones(1600, 1), torch.zeros(1600, 1), log_and_local_heights(flat)], 1)
    features, index = Features.parse("intensity,height,log_height:2,local_height:2"), torch.arange(40)
    batch = {"xyz": flat.repeat(40, 1, 1), "feats": feats.repeat(40, 1, 1), "index": index}
    batch["labels"] = torch.ones(40, 1600, dtype=torch.int64)
    noisy = scatter_scenes(batch, 0.02, features, 0.5, Draws(index, "noise"))
    moved, changed = noisy["labels"] == -1, (noisy["xyz"] != batch["xyz"]).any(2)
    assert torch.equal(moved, changed) and noisy["labels"][~moved].unique().tolist() == [1]
    assert noisy["xyz"][..., :2].equal(batch["xyz"][..., :2]) and noisy["feats"][..., 0].unique().tolist() == [1]
    heights_of_noise = noisy["xyz"][..., 2][moved]
    assert heights_of_noise.amin() < -100 and heights_of_noise.amax() > 100 and heights_of_noise.abs().amax() <= 161
    shares = moved.float().mean(1)
    assert 5 < (shares > 0).sum() < 20 and 0.01 < shares.amax() < 0.03
    for i in (shares > 0).nonzero().flatten().tolist():
        points = noisy["xyz"][i]
        stray = stray_points(points, 4.0)
        assert torch.allclose(2 * noisy["feats"][i, :, 1], heights(points, stray, 10.0), atol=1e-3)
        assert torch.allclose(noisy["feats"][i, :, 2:], log_and_local_heights(points, stray), atol=1e-3)
    assert (noisy["feats"][~moved][:, 1].abs() < 1e-3).float().mean() > 0.99  # above the ground as before
    assert torch.equal(scatter_scenes(batch, 0.0, features, 0.5, Draws(index, "noise"))["xyz"], batch["xyz"])


def test_hills_are_cones_with_flat_tops():
    places = torch.stack([torch.arange(0.0, 11), torch.zeros(11)], 1)
    cone = torch.tensor([[0.0, 1.0, 1.0, 1 / 3]])  # at the first place, as wide as the crop, height 1, twice as steep
    shape = [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0]
    assert hills(places, cone).tolist() == pytest.approx(shape, abs=1e-5)
    assert hills(20 * places, cone).tolist() == pytest.approx(shape, abs=1e-5)  # crops of sparse scans have slopes too
    narrow = torch.tensor([[0.0, 0.0, 1.0, 1 / 3]])
    for scale in (0.5, 20):  # the narrowest cone has a radius of 5 voxels in all crops
        expected = [min(1, max(0, 2 - 2 * scale * place / 5)) for place in range(11)]
        assert hills(scale * places, narrow).tolist() == pytest.approx(expected, abs=1e-5)


def test_mixed_crops_hold_the_inner_halves_of_two_crops():
    batch = crops()
    mixed = mix_scenes(batch, 1.0, Draws(batch["index"], "mix"))
    assert mixed["labels"][0].tolist() == [10, 11, 12, 13, 14, 0, 1, 2, 3, 4]
    assert mixed["labels"][1].tolist() == [20, 21, 22, 23, 24, 10, 11, 12, 13, 14]
    assert torch.equal(mixed["xyz"][0, 5:], batch["xyz"][0, :5]) and torch.equal(
        mixed["feats"][..., 0].long(), mixed["labels"]
    )
    assert mixed["index"].tolist() == [1, 2]
    alone = mix_scenes(batch, 0.0, Draws(batch["index"], "mix"))
    assert all(torch.equal(alone[key], batch[key][1:]) for key in batch)


def write_scenes(root, words=("ground", "roof", "void")):
    for split, seeds in (("train", (0, 1)), ("test", (2,))):
        (root / split).mkdir(parents=True)
        for seed in seeds:
            xyz, columns, label = cloud(300, seed)
            rows = [f"{x:.3f},{y:.3f},{z:.3f},{words[k]}" for (x, y, z), k in zip(xyz, label, strict=True)]
            (root / split / f"{seed}.csv").write_text("\n".join(["x,y,z,class", *rows]))


def test_labels_may_lie_beside_the_points(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.txt").write_text("0 0 0 5 1 2 3\nnan 0 0 5 1 2 3\n9 0 0 5 1 2 3\n")
        (tmp_path / split / "a.labels").write_text("5\n7\n2\n")
    source = SceneFolder(str(tmp_path), grid=0.5, num_points=2, crops=1)
    assert source.load()[0].class_names == ("2", "5")
    for split in ("train", "test"):
        (tmp_path / split / "a.labels").write_text("44\n7\n2\n")
    train, _ = SceneFolder(str(tmp_path), grid=0.5, num_points=2, crops=1).load()
    assert train.class_names == ("2", "44") and train.scenes[0].point_label.tolist() == [1, 0]
    for text, words in (("4\n7\n", "has 2 labels for 3 points"), ("4\nx\n7\n", "one whole number a line")):
        (tmp_path / "train" / "a.labels").write_text(text)
        with pytest.raises(InputError, match=words):
            SceneFolder(str(tmp_path), grid=0.5, num_points=2, crops=1).load()


def test_a_last_column_is_taken_for_the_labels_only_where_none_lie_beside_and_that_is_said(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for name in ("a", "b"):
            (tmp_path / split / f"{name}.txt").write_text("0 0 0 5 1 2 3\n4 0 0 5 1 2 4\n9 0 0 5 1 2 3\n")
    train, _ = SceneFolder(str(tmp_path), grid=0.5, num_points=2, crops=1).load()
    assert train.class_names == ("3", "4")
    assert "column7 taken for the labels: --data.label names another column" in " ".join(train.notes)
    (tmp_path / "train" / "a.labels").write_text("5\n7\n2\n")
    for classes in (None, {"one": 3, "other": 4}):
        with pytest.raises(InputError, match="b.txt has no labels beside it, as a.labels, and no named column"):
            SceneFolder(str(tmp_path), grid=0.5, num_points=2, crops=1, classes=classes).load()
    SceneFolder(str(tmp_path), grid=0.5, num_points=2, crops=1, label="column7").load()


def test_a_folder_of_scenes_has_the_labels_of_its_training_files_as_classes(tmp_path):
    write_scenes(tmp_path)
    train, test = SceneFolder(str(tmp_path), grid=0.5, num_points=32, crops=4).load()
    assert train.class_names == ("ground", "roof") and (len(train.scenes), len(test.scenes)) == (2, 1)
    again, _ = SceneFolder(str(tmp_path), grid=0.5, num_points=32, crops=4).load()  # from the cache
    assert torch.equal(again.scenes[1].xyz, train.scenes[1].xyz)


def test_classes_yaml_names_classes_and_ignores_other_labels(tmp_path):
    write_scenes(tmp_path)
    (tmp_path / "classes.yaml").write_text("labels: {roof: building}\n")
    with pytest.raises(InputError, match="2 or more|two or more|class"):
        (tmp_path / "classes.yaml").write_text("label: [1]\n")
        SceneFolder(str(tmp_path)).load()
    (tmp_path / "classes.yaml").write_text("labels: {roof: building, other: car}\n")
    train, _ = SceneFolder(str(tmp_path), grid=0.5).load()
    assert train.class_names == ("building", "car")
    assert set(train.scenes[0].point_label.tolist()) == {0, -1}
    assert "have no class, and are ignored" in train.notes[0]


def test_files_of_classes_elsewhere_are_said_and_a_linked_folder_that_is_read_is_not(tmp_path):
    write_scenes(tmp_path / "elsewhere")
    root = tmp_path / "root"
    (root / "test").mkdir(parents=True)
    (root / "train").symlink_to(tmp_path / "elsewhere/train")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    (root / "test/2.csv").write_bytes((tmp_path / "elsewhere/test/2.csv").read_bytes())
    for name in ("classes.yaml", "Classes.yaml", "labels.yaml", "test/classes.yaml"):
        (root / name).touch()
    said = unread_of(root, split_files(root))
    assert said == [
        "3 files of other kinds not read: Classes.yaml, labels.yaml, test/classes.yaml",
        "1 linked folder not read: more",
    ]


def test_a_scene_with_y_up_or_of_a_mesh_is_refused(tmp_path):
    xyz = np.random.default_rng(0).random((20, 3))
    trimesh.PointCloud(xyz).export(tmp_path / "a.glb")
    with pytest.raises(InputError, match="a.glb has y up, as its format defines it: write the scene with z up"):
        read_scene_file(tmp_path / "a.glb")
    trimesh.creation.box().export(tmp_path / "a.off")
    with pytest.raises(InputError, match="a.off is a mesh: a scene is a cloud of points"):
        read_scene_file(tmp_path / "a.off")


def test_a_scene_without_the_feature_is_refused_by_name(tmp_path):
    write_scenes(tmp_path)
    with pytest.raises(InputError, match=r"^train scene 0\.csv has no intensity"):
        SceneFolder(str(tmp_path), features="intensity").load()


def test_a_scanner_sees_no_point_behind_a_wall():
    rng = np.random.default_rng(0)
    wall = np.column_stack([np.full(20_000, 2.0), rng.uniform(-3, 3, (20_000, 2))])
    behind = np.column_stack([np.full(20_000, 3.0), rng.uniform(-1, 1, (20_000, 2))])
    seen = visible_points(np.concatenate([wall, behind]), np.zeros(3), 1.0)
    assert len(seen) > 1000 and (seen < 20_000).mean() > 0.999


def test_a_room_depends_on_its_seed_has_13_classes_in_all_and_lies_within_its_walls():
    first, again = (make_room_cloud(np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    xyz, rgb, label = first
    assert np.ptp(xyz, axis=0).max() < 8 and rgb.min() >= 0 and rgb.max() <= 1
    assert {CLASSES[i] for i in np.unique(label)} >= {"ceiling", "floor", "wall"}


def test_rooms_have_voxels_with_colors_and_heights():
    train, test = Rooms(train_scenes=1, test_scenes=1, grid=0.3, features="rgb,height").load()
    assert train.class_names == CLASSES and train.feats.shape[1] == 4
    assert not torch.equal(train.scenes[0].xyz[:10], test.scenes[0].xyz[:10])
    floor = train.scenes[0].label == CLASSES.index("floor")
    assert train.scenes[0].feats[floor, 3].median() < 0.2


def test_numbers_in_classes_yaml_are_the_las_classification_of_the_classes(tmp_path):
    write_scenes(tmp_path, words=("2", "4", "7"))
    (tmp_path / "classes.yaml").write_text("labels: {2: ground, 3: plants, 4: plants}\nignore: [7]\n")
    train, _ = SceneFolder(str(tmp_path), grid=0.5).load()
    assert (train.class_names, train.codes) == (("ground", "plants"), (2, 3))
    (tmp_path / "classes.yaml").write_text("labels: {2: ground, four: plants}\n")
    assert SceneFolder(str(tmp_path), grid=0.5).load()[0].codes is None


@pytest.mark.parametrize(
    ("head", "size"),
    [
        ("X [ft],Y [ft],Z [ft]", 0.3048),
        ("easting_mm,northing_mm,elevation", 0.001),
        ("x,y,z\nusft,usft,usft", 1200 / 3937),
        ("x,y,z\nm,m,m", 1.0),
        ("x,y,z", 1.0),
    ],
)
def test_a_table_that_names_its_unit_is_a_scene_in_meters(tmp_path, head, size):
    xyz = np.random.default_rng(0).random((30, 3)) * 50
    rows = "\n".join(",".join(f"{value:.6f}" for value in row) for row in xyz)
    (tmp_path / "a.csv").write_text(f"{head}\n{rows}\n")
    scene, cloud = read_scene_file(tmp_path / "a.csv"), read_file(tmp_path / "a.csv")[0]
    np.testing.assert_allclose(cloud.xyz, xyz, atol=1e-6)
    np.testing.assert_allclose(scene.xyz, xyz * size, atol=1e-6)
    assert any("converted to meters" in note for note in scene.notes) == (size != 1)
