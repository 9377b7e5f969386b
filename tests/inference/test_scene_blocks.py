"""Scenes in blocks: bounded parts of large files and clouds, with the labels of one path, also after interruptions."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

laspy = pytest.importorskip("laspy", reason="needs laspy and lazrs: pip install 'bixt3d[lidar]'")

from scene_runs import load_scene_run, train_a_little, write_survey  # noqa: E402
from small_disk import largest_file  # noqa: E402

from bixt3d.datasets.files.reader import read_file  # noqa: E402
from bixt3d.datasets.scenes.blocks import FLOOR, Block, plan_blocks  # noqa: E402
from bixt3d.datasets.scenes.folder import read_scene_file  # noqa: E402
from bixt3d.datasets.scenes.scene import from_origin, make_scene  # noqa: E402
from bixt3d.inference import scene_blocks  # noqa: E402
from bixt3d.inference.scene_blocks import NumbersOnDisk  # noqa: E402
from bixt3d.inference.windows import random_order, scene_probabilities  # noqa: E402
from bixt3d.io.writing import WriteError, reserve  # noqa: E402
from bixt3d.types import Features, InputError  # noqa: E402

ALL = 10**9
FOOT = 0.3048
STATUS = Path("/proc/self/status")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("survey") / "survey.laz")


def mapped_files() -> int:
    """Return how much of mapped files is in memory, in KiB."""
    return int(STATUS.read_text().split("RssFile:")[1].split()[0])


def same(one, other) -> bool:
    pairs = ((getattr(one, name), getattr(other, name)) for name in ("labels", "confidence", "entropy"))
    return all(torch.equal(left.double(), right.double()) for left, right in pairs)


def test_every_point_is_in_one_block_and_no_voxel_in_two():
    xyz = from_origin(np.random.default_rng(0).random((5000, 3)) * (300, 200, 9), np.zeros(3))
    blocks, margin = plan_blocks(xyz, len(xyz), 1500, 16, 0.45)
    held = np.stack([block.holds(xyz) for block in blocks])
    assert len(blocks) == 8 and (held.sum(0) == 1).all()
    assert max(block.holds(xyz, margin).sum() for block in blocks) <= 1500
    voxels = [set(map(tuple, np.floor(xyz[mask] / 0.45).astype(int))) for mask in held]
    assert sum(map(len, voxels)) == len(set.union(*voxels))


def test_a_block_that_is_as_narrow_as_its_margins_stays_whole():
    xyz = np.random.default_rng(0).random((5000, 3)) * (FLOOR, FLOOR, 9)
    assert plan_blocks(xyz, len(xyz), 10, 16, 1.0) == ([Block()], FLOOR)


def test_a_block_with_its_margin_is_no_larger_in_a_larger_scene():
    rng, largest = np.random.default_rng(0), []
    for side in (400, 800, 1600):
        xyz = rng.random((side * side // 40, 3)) * (side, side, 9)
        blocks, margin = plan_blocks(xyz, len(xyz), 2000, 1000, 1.0)
        largest.append(max(block.holds(xyz, margin).sum() for block in blocks))
    assert len(blocks) > 32 and max(largest) <= 2000


def test_a_corner_of_two_corridors_is_cut():
    rng = np.random.default_rng(0)
    corridors = rng.random((14_000, 3)) * (30, 3000, 9), rng.random((6000, 3)) * (5000, 30, 9)
    xyz = np.concatenate(corridors)
    blocks, margin = plan_blocks(xyz, 50_000_000, 2_000_000, 16384, 0.5)
    held = [block.holds(xyz, margin).sum() * 2500 for block in blocks]
    assert len(blocks) > 30 and max(held) <= 2_000_000


def test_margins_are_as_wide_as_a_window_of_a_sparse_scan_but_not_of_a_corridor():
    rng = np.random.default_rng(0)
    square, diagonal = rng.random((100_000, 3)) * (3000, 3000, 9), 14_000 * rng.random((100_000, 1)) + np.zeros(3)
    corridor = 14_000 * FLOOR * 0.5  # covered square meters
    for sample, total, expected in (
        (square, 4_000_000, 2 * np.sqrt(16384 / np.pi * 2.25)),  # 2.25 square meters for each point
        (square, 100_000_000, 2 * np.sqrt(16384 / np.pi) * 0.5),
        (diagonal, 50_000_000, np.sqrt(corridor * 2 / 50) / 4),
    ):
        assert plan_blocks(sample, total, 2_000_000, 16384, 0.5)[1] == pytest.approx(expected, rel=0.01)


def test_blocks_follow_the_points_of_a_street():
    along = np.linspace(0, 2000, 4000)
    xyz = np.column_stack([along, along / 2, np.zeros(4000)])
    blocks, margin = plan_blocks(xyz, 4_000_000, 1_100_000, 100, 0.3)
    held = [int(block.holds(xyz).sum()) for block in blocks]
    assert margin == FLOOR * 0.3 and held == pytest.approx([1000] * 4, abs=3)


def test_the_margin_of_a_block_holds_all_points_that_heights_in_it_depend_on():
    rng = np.random.default_rng(0)
    xyz = rng.random((20_000, 3)) * (1000, 750, 30)
    xyz[::50, 2] = -400 * rng.random(400)  # many of them stray
    xyz = from_origin(xyz, np.zeros(3))
    nothing, grid, origin = np.full(len(xyz), -1), 1.0, np.zeros(3)
    features = Features.parse("height,log_height:2,local_height:2,linearity:2,verticality:2,eigenfeatures:10")
    whole = make_scene(xyz, {}, nothing, features, grid, origin=origin)
    floor, feats = (values[whole.inverse.long()] for values in (whole.floor, whole.feats))
    blocks, margin = plan_blocks(xyz, len(xyz), 9000, 16, grid)
    assert len(blocks) == 4
    for block in blocks:
        index = np.flatnonzero(block.holds(xyz, margin))
        part = make_scene(xyz[index], {}, nothing[index], features, grid, origin=origin)
        core = block.holds(xyz[index])
        assert torch.equal(part.feats[part.inverse.long()][core], feats[index][core])
        assert torch.equal(part.floor[part.inverse.long()][core], floor[index][core])


def test_a_file_in_one_block_has_the_labels_and_notes_of_the_cloud_in_memory(run, survey, tmp_path):
    predictor = load_scene_run(run, ALL)
    in_memory, (on_disk, _) = predictor.predict(survey), predictor.predict_las(survey, tmp_path)
    assert same(in_memory, on_disk) and len(in_memory.labels.unique()) > 1
    assert (in_memory.notes, in_memory.shares) == (on_disk.notes, on_disk.shares)


@pytest.mark.parametrize(("scale", "is_said"), [(1, False), (100, True), (1 / 1000, True)])
def test_points_much_farther_apart_or_nearer_than_voxels_may_be_in_another_unit(run, survey, tmp_path, scale, is_said):
    predictor = load_scene_run(run, ALL)
    las = laspy.read(survey)
    las.header.scales, las.header.offsets = las.header.scales * scale, las.header.offsets * scale
    las.points.scales, las.points.offsets = las.header.scales, las.header.offsets
    las.write(tmp_path / "scaled.laz")
    words = "coordinates may be in another unit than those it was trained on"
    for found in (
        predictor.predict(tmp_path / "scaled.laz"),
        predictor.predict_las(tmp_path / "scaled.laz", tmp_path / "parts")[0],
    ):
        assert (words in "".join(found.notes)) == is_said


def test_a_file_in_blocks_has_the_labels_of_the_cloud_in_blocks_and_of_the_path_alone(run, survey, tmp_path):
    predictor = load_scene_run(run, 1500)
    (on_disk, parts), in_memory = predictor.predict_las(survey, tmp_path), predictor.predict(read_file(survey)[0])
    assert len(parts.blocks) > 3 and same(in_memory, on_disk)
    found = predictor.predict(str(survey))
    assert same(found, on_disk) and found.labels.dtype == torch.long


def test_windows_that_hold_the_scene_give_the_labels_of_one_pass(run, survey):
    predictor = load_scene_run(run, ALL, window=10**6)
    cloud = predictor.prepare(read_file(survey)[0])
    scene = make_scene(cloud.xyz, cloud.columns, np.full(len(cloud), -1), predictor.features, 1.0)
    one_pass = scene_probabilities(predictor.model, scene, len(scene), "cylinder").argmax(1)[scene.inverse.long()]
    assert torch.equal(predictor.predict(survey).labels, one_pass)


def shifted(source, path, offset):
    """Write a copy 500 km to the east and 5000 km to the north, with another offset of its coordinates."""
    las = laspy.read(source)
    other = laspy.LasData(laspy.LasHeader(point_format=las.header.point_format, version=str(las.header.version)))
    other.header.scales, other.header.offsets = las.header.scales, las.header.offsets + offset
    other.points = laspy.ScaleAwarePointRecord(
        las.points.array.copy(), las.point_format, other.header.scales, other.header.offsets
    )
    for place, axis in enumerate("XYZ"):
        other[axis] = las[axis] + round(((500_000, 5_000_000, 0)[place] - offset[place]) / las.header.scales[place])
    other.update_header()
    other.write(path)
    return path


@pytest.mark.parametrize("block", [1500, ALL])
def test_a_copy_at_other_coordinates_has_the_same_labels(run, survey, tmp_path, block):
    predictor = load_scene_run(run, block)
    far = shifted(survey, tmp_path / "far.las", np.array([499_000.0, 4_999_099.5, 0]))
    assert read_file(far)[0].xyz[0, 1] - read_file(survey)[0].xyz[0, 1] == pytest.approx(5_000_000)
    assert same(predictor.predict_las(survey, tmp_path / "a")[0], predictor.predict_las(far, tmp_path / "b")[0])


@pytest.mark.parametrize("block", [1500, ALL])
@pytest.mark.parametrize(("heights", "height"), [("", FOOT), (',VERT_CS["h",UNIT["metre",1]]', 1.0)])
def test_a_survey_in_feet_has_the_labels_of_the_same_in_meters(run, survey, tmp_path, block, heights, height):
    predictor, las = load_scene_run(run, block), laspy.read(survey)
    units = np.array([FOOT, FOOT, height])
    las.header.scales, las.header.offsets = las.header.scales / units, las.header.offsets / units
    las.points.scales, las.points.offsets = las.header.scales, las.header.offsets
    wkt = f'COMPD_CS["feet",PROJCS["y",UNIT["foot",{FOOT}]]{heights}]'
    las.header.vlrs = [one for one in las.header.vlrs if one.record_id != 2112]
    las.header.vlrs.append(laspy.VLR("LASF_Projection", 2112, "", wkt.encode() + b"\0"))
    las.write(tmp_path / "feet.laz")
    in_feet = predictor.predict_las(tmp_path / "feet.laz", tmp_path / "a")[0]
    in_meters = predictor.predict_las(survey, tmp_path / "b")[0]
    assert torch.equal(in_feet.labels, in_meters.labels)
    note = f"x and y, in units of 0.3048 m, and z, of {height:g} m, converted to meters for the model"
    assert note in in_feet.notes and note in predictor.predict(tmp_path / "feet.laz").notes
    assert torch.equal(predictor.predict(tmp_path / "feet.laz").labels, in_feet.labels)
    np.testing.assert_allclose(read_scene_file(tmp_path / "feet.laz").xyz, read_scene_file(survey).xyz, atol=1e-6)


def test_numbers_on_disk_are_those_of_an_array(tmp_path, monkeypatch):
    monkeypatch.setattr(scene_blocks, "CHUNK", 4)
    array, numbers = np.zeros(10, np.float32), NumbersOnDisk(tmp_path / "numbers", np.dtype("f4"))
    array.tofile(numbers.path)
    index = np.array([0, 1, 3, 8, 9])  # none of the second part
    array[index] = values = np.arange(1, 6, dtype=np.float32)
    numbers.put(index, values)
    assert len(numbers) == 10 and np.array_equal(numbers[:], array) and np.array_equal(numbers[2:5], array[2:5])
    assert np.array_equal(numbers.take(index), values)


@pytest.mark.skipif(not STATUS.is_file(), reason="this system does not tell how much of mapped files is in memory")
def test_numbers_on_disk_that_were_read_or_written_are_not_in_memory(tmp_path):
    numbers = NumbersOnDisk(tmp_path / "numbers", np.dtype("u1"))
    with numbers.path.open("wb") as file:
        file.truncate(32 * 2**20)
    before = mapped_files()
    assert not any(numbers[first : first + 2**20].any() for first in range(0, len(numbers), 2**20))
    index = np.arange(0, len(numbers), 1000)
    numbers.put(index, np.ones(len(index), np.uint8))
    assert numbers.take(index).all() and mapped_files() - before < 4 * 2**10


class StopError(Exception):
    pass


@pytest.mark.parametrize("when", [1, 3000])
def test_what_was_interrupted_goes_on_where_it_was_and_gives_the_same(run, survey, tmp_path, when):
    predictor, done = load_scene_run(run, 1500), []
    whole, _ = predictor.predict_las(survey, tmp_path / "whole")

    def progress(number):
        done.append(number)
        if sum(done) >= when:
            raise StopError

    with pytest.raises(StopError):
        predictor.predict_las(survey, tmp_path / "parts", progress)
    marks = sorted((tmp_path / "parts").glob("done_*"))
    assert len(marks) == (when > 1) * len(marks)
    states = [mark.stat().st_mtime_ns for mark in marks]
    done.clear()
    again, _ = predictor.predict_las(survey, tmp_path / "parts", done.append)
    assert same(whole, again) and sum(done) == len(whole.labels)
    assert states == [mark.stat().st_mtime_ns for mark in marks]


@pytest.mark.parametrize("what", ["weights", "file", "settings"])
def test_parts_of_other_weights_of_a_changed_file_or_of_other_settings_are_made_anew(run, survey, tmp_path, what):
    predictor = load_scene_run(run, 1500)
    source = tmp_path / "survey.laz"
    source.write_bytes(survey.read_bytes())
    before, _ = predictor.predict_las(source, tmp_path / "parts")
    before = before.confidence.clone()
    if what == "weights":
        torch.nn.init.zeros_(predictor.model.head.weight)
    elif what == "file":
        write_survey(source, seed=1)
    else:
        predictor.window = 64
    after, _ = predictor.predict_las(source, tmp_path / "parts")
    fresh, _ = predictor.predict_las(source, tmp_path / "fresh")
    assert same(after, fresh) and not torch.equal(before, after.confidence)


@pytest.mark.parametrize(("point_bytes", "file"), [(1, r"sample\.npy"), (25, "block_0")])
def test_points_that_do_not_fit_on_the_disk_are_a_sentence(run, survey, tmp_path, point_bytes, file):
    predictor, total = load_scene_run(run, ALL), len(laspy.read(survey))
    with largest_file(point_bytes * total), pytest.raises(WriteError, match=f"^could not write .*{file}: File too"):
        predictor.predict_las(survey, tmp_path)


def test_without_space_for_the_results_no_point_is_labelled(run, survey, tmp_path, monkeypatch):
    predictor, done = load_scene_run(run, 1500), []
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(WriteError, match="could not write .*label: the disk is full"):
            predictor.predict_las(survey, tmp_path, done.append)
    assert not done
    found, _ = predictor.predict_las(survey, tmp_path)
    for file, expected in zip(("label", "confidence", "entropy"), (1, 4, 4), strict=True):
        assert (tmp_path / file).stat().st_size == expected * len(found.labels)


@pytest.mark.parametrize("by", ["the system", "zeros"])
def test_a_file_with_reserved_space_keeps_what_it_holds(tmp_path, monkeypatch, by):
    if by == "zeros":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    path, size = tmp_path / "numbers", 3 * 2**20 + 5
    path.write_bytes(b"abc")
    for _ in range(2):
        with path.open("r+b") as file:
            reserve(file, size)
    assert path.read_bytes() == b"abc" + bytes(size - 3) and path.stat().st_blocks * 512 >= size


def test_windows_lie_in_a_block_as_in_the_whole_scene(run, survey):
    """What a window sees decides its labels, so these are the same to the bit, but where a chain of windows is cut."""
    predictor = load_scene_run(run, ALL, window=64)
    whole = predictor.predict(survey)
    predictor.block = len(whole.labels) // 4
    blocks = predictor.predict(survey)
    assert torch.equal(whole.labels, blocks.labels)
    assert (whole.confidence == blocks.confidence).float().mean() > 0.999


def test_the_order_of_windows_is_that_of_the_whole_in_each_part_and_random():
    xyz = np.random.default_rng(0).random((3000, 3)) * (50, 40, 9)
    label, origin, features = np.full(3000, -1), np.zeros(3), Features.parse("height")
    whole = make_scene(xyz, {}, label, features, 1.0, origin=origin)
    kept = np.flatnonzero((xyz[:, 0] >= 20) & (xyz[:, 1] < 30))
    part = make_scene(xyz[kept], {}, label[kept], features, 1.0, origin=origin)
    of_whole = np.empty(len(part), int)
    of_whole[part.inverse.numpy()] = whole.inverse.numpy()[kept]
    order = random_order(whole)
    assert of_whole[random_order(part)].tolist() == [one for one in order if one in set(of_whole)]
    turns = np.argsort(order)
    for axis in range(3):
        assert abs(np.corrcoef(turns, whole.xyz[:, axis])[0, 1]) < 0.05


def test_the_borders_of_blocks_add_no_changes_of_label(run, tmp_path):
    """Pairs of near points on both sides of a border have different labels as often as in the scene labelled whole."""
    from scipy.spatial import KDTree

    predictor, changes, pairs_across = load_scene_run(run, 1500), np.zeros(2), 0
    train_a_little(predictor)
    for seed in (2, 6):
        survey = write_survey(tmp_path / f"survey{seed}.laz", density=0.4, seed=seed)
        predictor.block = 1500
        found, parts = predictor.predict_las(survey, tmp_path / f"parts{seed}")
        predictor.block = ALL
        whole = predictor.predict(survey)
        cloud = read_file(survey)[0]
        ground = torch.from_numpy(cloud.columns["classification"][:, 0] == 2)
        assert ((found.labels == 0) == ground).float().mean() > 0.85
        xyz = from_origin(cloud.xyz, cloud.xyz.min(0))
        block = np.stack([one.holds(xyz) for one in parts.blocks]).argmax(0)
        pairs = KDTree(xyz).query_pairs(2.0, output_type="ndarray")
        across = pairs[np.not_equal(*block[pairs.T])]
        changes += [np.not_equal(*one.labels.numpy()[across.T]).sum() for one in (found, whole)]
        pairs_across += len(across)
    in_blocks, in_whole = changes / pairs_across
    assert pairs_across > 300 and in_whole > 0.01
    assert in_blocks < in_whole + 3 * np.sqrt(in_whole / pairs_across)


def test_a_file_without_the_feature_or_damaged_is_refused_by_name(run, tmp_path):
    predictor = load_scene_run(run, 1500, features="reflectance")
    survey = write_survey(tmp_path / "survey.las")
    with pytest.raises(InputError, match=r"survey\.las has no reflectance"):
        predictor.predict_las(survey, tmp_path / "parts")
    survey.write_bytes(survey.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"survey\.las .*cut off"):
        predictor.predict_las(survey, tmp_path / "parts")
