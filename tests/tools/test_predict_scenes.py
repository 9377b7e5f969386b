"""``bixt3d predict`` of scenes: files go back as they came, each point with label, confidence and entropy."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import trimesh

laspy = pytest.importorskip("laspy", reason="needs laspy and lazrs: pip install 'bixt3d[lidar]'")

from las_files import WKT, make_las, write_las_file  # noqa: E402
from other_processes import locked_by_another  # noqa: E402
from scene_runs import CLASSES, write_scene_run, write_survey  # noqa: E402

from bixt3d import load_run  # noqa: E402
from bixt3d.cli.main import call  # noqa: E402
from bixt3d.datasets.files.las import open_las  # noqa: E402
from bixt3d.datasets.files.las_header import EXTRA_BYTES, LASZIP  # noqa: E402
from bixt3d.datasets.files.reader import read_file  # noqa: E402
from bixt3d.inference.scenes import ScenePredictor  # noqa: E402
from bixt3d.io.writing import WriteError, host_name  # noqa: E402
from bixt3d.types import InputError  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_scene_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("survey") / "survey.laz")


def records(path) -> list:
    with open_las(path) as las:
        return [one for one in las.all_records if one.key not in (LASZIP, EXTRA_BYTES)]


def predict(*words) -> int:
    return call(["predict", *map(str, words)])


@pytest.mark.parametrize("point_format", [3, 6, 8])
@pytest.mark.parametrize("block", [60, 10**9])
def test_a_las_comes_back_bit_for_bit_with_three_dimensions_more(
    tmp_path, run, monkeypatch, capsys, point_format, block
):
    monkeypatch.setattr(ScenePredictor, "block", block)
    source = write_las_file(tmp_path / "a.laz", make_las(point_format, wkt=WKT))
    predict(source, "--checkpoint", run, "--out", tmp_path / "out", "--json")
    facts = json.loads(capsys.readouterr().out)
    old, new = laspy.read(source), laspy.read(tmp_path / "out/a_prediction.laz")
    assert list(new.point_format.dimension_names) == [
        *old.point_format.dimension_names,
        "label",
        "confidence",
        "entropy",
    ]
    assert all(np.array_equal(old[name], new[name]) for name in old.point_format.dimension_names)
    assert (old.header.scales == new.header.scales).all() and (old.header.offsets == new.header.offsets).all()
    assert records(source) == [one for one in records(tmp_path / "out/a_prediction.laz") if one.key != ("bixt3d", 1)]
    assert facts["points"] == len(new) == 200 and new.label.dtype == np.uint8
    found = load_run(run)
    assert np.array_equal(found.predict(source).labels, new.label)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")) == []


def test_an_interrupted_prediction_goes_on_and_gives_the_same_bytes(tmp_path, run, survey, monkeypatch, capsys):
    monkeypatch.setattr(ScenePredictor, "block", 1500)

    def stop(number):
        nonlocal left
        left -= number
        if left < 0:
            raise KeyboardInterrupt

    predict(survey, "--checkpoint", run, "--out", tmp_path / "whole")
    folder, left = tmp_path / "parts/.survey_prediction.bixt3d_parts", 4000
    with pytest.raises(KeyboardInterrupt):
        load_run(run).predict_las(survey, folder, stop)
    marks = {path: path.stat().st_mtime_ns for path in folder.glob("done_*")}
    assert marks
    predict(survey, "--checkpoint", run, "--out", tmp_path / "parts")
    one, other = ((tmp_path / name / "survey_prediction.laz").read_bytes() for name in ("whole", "parts"))
    assert one == other and not folder.exists()


@pytest.mark.parametrize("block", [1500, 10**9])
def test_what_killed_predictions_left_half_written_is_removed_and_nothing_else(
    tmp_path, run, survey, monkeypatch, capsys, block
):
    monkeypatch.setattr(ScenePredictor, "block", block)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [f".survey_prediction.{one}.{host_name()}.{dead.pid}.tmp" for one in ("laz", "png", "html")]
    others = [f".{one}.{host_name()}.{os.getppid()}.tmp" for one in ("survey_prediction.laz", "other_prediction.laz")]
    for name in (*left, *others):
        (tmp_path / name).write_text("half")
    assert predict(survey, "--checkpoint", run, "--out", tmp_path) == 0
    assert sorted(path.name for path in tmp_path.glob(".*")) == sorted(others)


def test_a_failed_prediction_says_where_its_parts_are(tmp_path, run, survey, monkeypatch, capsys):
    monkeypatch.setattr(ScenePredictor, "block", 1500)
    monkeypatch.setattr("bixt3d.cli.predict_scenes.write_scene", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        predict(survey, "--checkpoint", run, "--out", tmp_path)
    assert "survey_prediction.bixt3d_parts: the same command goes on" in capsys.readouterr().err
    assert (tmp_path / ".survey_prediction.bixt3d_parts").is_dir()


@pytest.mark.parametrize("why", ["File exists", "File name too long"])
def test_a_folder_for_parts_that_cannot_be_made_is_one_sentence(tmp_path, run, survey, monkeypatch, capsys, why):
    monkeypatch.setattr(ScenePredictor, "block", 1500)
    source = tmp_path / f"{'a' if why == 'File exists' else 'a' * 240}.laz"
    source.write_bytes(survey.read_bytes())
    (tmp_path / ".a_prediction.bixt3d_parts").write_text("in the way")
    assert predict(source, "--checkpoint", run, "--out", tmp_path) == 2
    said = capsys.readouterr().err
    assert "could not make the folder" in said and f"bixt3d_parts: {why}; choose another --out" in said
    assert {path.name for path in tmp_path.iterdir()} == {source.name, ".a_prediction.bixt3d_parts"}


def test_the_parts_of_another_process_are_left_to_it(tmp_path, run, survey, monkeypatch, capsys):
    monkeypatch.setattr(ScenePredictor, "block", 1500)
    folder = tmp_path / ".survey_prediction.bixt3d_parts"
    folder.mkdir()
    for name in ("lock", "part_0"):
        (folder / name).write_bytes(b"")
    with locked_by_another(folder, "lock"):
        assert predict(survey, "--checkpoint", run, "--out", tmp_path) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "part_0"]
    said = capsys.readouterr().err
    assert "another process works in" in said and "goes on" not in said


def test_a_scan_with_a_viewpoint_is_not_moved_if_that_is_asked(tmp_path, run, capsys):
    header = "VERSION .7\nFIELDS x y z return_number\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 300\nHEIGHT 1\n"
    rows = np.random.default_rng(0).random((300, 4)) * (20, 20, 3, 1)
    lines = "\n".join(" ".join(f"{value:.3f}" for value in row) for row in rows)
    path = tmp_path / "scan.pcd"
    path.write_text(f"{header}VIEWPOINT 100 0 0 1 0 0 0\nPOINTS 300\nDATA ascii\n{lines}\n")
    for words, start in ((), 100.0), (("--no_viewpoint",), 0.0):
        out = tmp_path / f"out{start}"
        assert predict(path, "--checkpoint", run, "--out", out, "--format", "npz", *words) == 0
        with np.load(out / "scan_prediction.npz") as found:
            assert found["xyz"][:, 0].min() == pytest.approx(start + rows[:, 0].min(), abs=0.01)


@pytest.mark.parametrize("place", [".", "labelled"])
def test_results_of_an_earlier_prediction_in_the_same_folder_are_left_out(tmp_path, run, survey, capsys, place):
    out = tmp_path / place
    (tmp_path / "survey.laz").write_bytes(survey.read_bytes())
    for _ in range(2):
        assert predict(tmp_path, "--checkpoint", run, "--out", out) == 0
    assert [path.name for path in out.glob("*_prediction.laz")] == ["survey_prediction.laz"]
    assert "1 result of earlier predictions" in capsys.readouterr().err
    (tmp_path / "survey.laz").unlink()
    with pytest.raises(InputError, match="contains results of earlier predictions alone"):
        predict(tmp_path, "--checkpoint", run, "--out", out)


def test_a_picture_of_the_labels_is_a_result_of_an_earlier_prediction_too(tmp_path, run, capsys):
    numbers = np.random.default_rng(0).random((300, 7)) * (20, 20, 3, 1, 255, 255, 255)
    rows = "\n".join(" ".join(f"{value:.0f}" for value in row) for row in numbers)
    names = "".join(f"property float {name}\n" for name in ["x", "y", "z", "return_number", "red", "green", "blue"])
    (tmp_path / "a.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex 300\n{names}end_header\n{rows}\n")
    for _ in range(2):
        assert predict(tmp_path, "--checkpoint", run, "--out", tmp_path) == 0
    assert sorted(one.name for one in tmp_path.glob("*.ply")) == [
        "a.ply",
        "a_prediction.ply",
        "a_prediction_colors.ply",
    ]
    assert "2 results of earlier predictions" in capsys.readouterr().err


def test_a_mesh_and_a_cloud_with_y_up_are_refused_by_the_same_sentence_everywhere(tmp_path, run, capsys):
    box = trimesh.creation.box()
    trimesh.PointCloud(box.vertices).export(tmp_path / "a.glb")
    meshes = [box]
    with contextlib.suppress(ImportError):
        from open3d.geometry import TriangleMesh

        meshes.append(TriangleMesh.create_box())
    for ending in ("off", "ply", "obj", "stl"):
        box.export(tmp_path / f"a.{ending}")
        meshes.append(tmp_path / f"a.{ending}")
        assert predict(meshes[-1], "--checkpoint", run) == 2
        assert f"{meshes[-1]} is a mesh: a scene is a cloud of points\n" in capsys.readouterr().err
    for mesh in meshes:
        with pytest.raises(InputError, match=r"^(the input|a\.\w+) is a mesh: a scene is a cloud of points$"):
            load_run(run).predict(mesh)
    assert predict(tmp_path / "a.glb", "--checkpoint", run) == 2
    assert f"{tmp_path / 'a.glb'} has y up, as its format defines it" in capsys.readouterr().err


@pytest.mark.parametrize("block", [1500, 10**9])
def test_a_file_without_some_features_is_refused_before_it_is_sorted_with_the_way_out(
    tmp_path, survey, monkeypatch, capsys, block
):
    monkeypatch.setattr(ScenePredictor, "block", block)
    run = write_scene_run(tmp_path / "run", features="height,amplitude,reflectance")
    assert predict(survey, "--checkpoint", run, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "survey.laz has no amplitude, reflectance (it has " in said and "goes on" not in said
    assert "; for such clouds train a model without, or with --augment.feature_dropout 0.2\n" in said
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("block", [1500, 10**9])
def test_the_classification_is_replaced_by_the_codes_of_the_training_labels(
    tmp_path, survey, monkeypatch, capsys, block
):
    monkeypatch.setattr(ScenePredictor, "block", block)
    run = write_scene_run(tmp_path / "run", las_codes=[2, 5, 6])
    predict(survey, "--checkpoint", run, "--out", tmp_path, "--write", "classification")
    assert "classification replaced: ground 2, vegetation 5, building 6" in capsys.readouterr().out
    old, new = laspy.read(survey), laspy.read(tmp_path / "survey_prediction.laz")
    assert np.array_equal(new.classification, np.array([2, 5, 6])[load_run(run).predict(survey).labels])
    assert list(new.point_format.dimension_names) == list(old.point_format.dimension_names)
    others = [name for name in old.point_format.dimension_names if name != "classification"]
    assert all(np.array_equal(old[name], new[name]) for name in others)
    assert records(tmp_path / "survey_prediction.laz") == records(survey)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [("[building]", 2, "building 2 (their numbers in the run"), ("{building: 6}", 6, "building 6, all other")],
)
@pytest.mark.parametrize("inline", [False, True])
def test_only_chosen_classes_are_replaced(tmp_path, run, survey, capsys, text, code, said, inline):
    (tmp_path / "keep.yaml").write_text(text)
    more = ("--write", "classification", "--classes", text if inline else tmp_path / "keep.yaml")
    predict(survey, "--checkpoint", run, "--out", tmp_path, *more)
    out = capsys.readouterr().out
    assert f"classification replaced: {said}" in out and "all other points keep theirs" in out
    old, new = laspy.read(survey), laspy.read(tmp_path / "survey_prediction.laz")
    building = load_run(run).predict(survey).labels.numpy() == CLASSES.index("building")
    assert 0 < building.sum() < len(building)
    assert np.array_equal(new.classification, np.where(building, code, old.classification))


def test_what_cannot_be_written_is_refused_before_anything_is_predicted(tmp_path, run, survey, capsys):
    given = ("--checkpoint", run, "--out", tmp_path / "out", "--write", "classification")
    (tmp_path / "cloud.xyz").write_text("0 0 0\n1 1 1\n")
    old = write_las_file(tmp_path / "old.las", make_las(3))
    classes = {"wrong.yaml": "[tree]", "none.yaml": "3", "large.yaml": "{building: 64}"}
    for name, text in classes.items():
        (tmp_path / name).write_text(text)
    cases = [
        ((tmp_path / "cloud.xyz", *given), "has no LAS classification"),
        ((survey, *given, "--classes", tmp_path / "wrong.yaml"), "names tree, but the classes are ground, vegetation"),
        ((survey, *given, "--classes", tmp_path / "none.yaml"), "should list classes"),
        ((survey, *given, "--classes", "[tree]"), "[tree] names tree, but the classes are ground, vegetation"),
        ((survey, *given, "--classes", "[tree"), "[tree contains no settings in yaml"),
        ((old, *given, "--classes", tmp_path / "large.yaml"), "classification is at most 31, but building is 64"),
    ]
    for words, sentence in cases:
        assert predict(*words) == 2
        assert sentence in capsys.readouterr().err
    for words, sentence in (
        ((*given, "--format", "ply"), "--write classification is for LAS and LAZ"),
        ((*given[:4], "--classes", tmp_path / "wrong.yaml"), "--classes needs --write classification"),
        ((*given[:2], "--write", "extra"), "--write needs --out"),
    ):
        with pytest.raises(InputError, match=sentence):
            predict(survey, *words)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("block", [60, 10**9])
def test_a_copy_that_cannot_be_is_refused_before_anything_is_predicted(tmp_path, monkeypatch, capsys, block):
    run = write_scene_run(tmp_path / "run", features="")
    monkeypatch.setattr(ScenePredictor, "block", block)
    monkeypatch.setattr(ScenePredictor, "predict", None)
    monkeypatch.setattr(ScenePredictor, "predict_las", None)
    channels = make_las(9)
    channels.scanner_channel = np.arange(200) % 2
    wide = make_las(6, extra=False)
    wide.add_extra_dims([laspy.ExtraBytesParams(f"extra {n}", "u1") for n in range(339)])
    cases = [
        (write_las_file(tmp_path / "a.las", channels), ("out.laz",), "waveforms of several scanner channels cannot be"),
        (write_las_file(tmp_path / "b.laz", channels), ("out.las",), "waveforms of several scanner channels cannot be"),
        (write_las_file(tmp_path / "c.laz", channels), ("out",), "waveforms of several scanner channels cannot be"),
        (write_las_file(tmp_path / "d.las", wide), ("out",), "more extra dimensions than LAS has room for"),
    ]
    for source, (out,), sentence in cases:
        assert predict(source, "--checkpoint", run, "--out", tmp_path / out) == 2
        assert f"error: {source}: " in (said := capsys.readouterr().err) and sentence in said and "goes on" not in said
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "out", *(case[0].name for case in cases)}
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("error", [InputError, WriteError])
def test_parts_are_kept_only_where_another_try_can_succeed(tmp_path, run, survey, monkeypatch, capsys, error):
    monkeypatch.setattr(ScenePredictor, "block", 1500)
    monkeypatch.setattr(
        "bixt3d.cli.predict_scenes.write_scene", lambda *_: (_ for _ in ()).throw(error("it cannot be"))
    )
    assert predict(survey, "--checkpoint", run, "--out", tmp_path) == 2
    can_succeed = error is WriteError
    assert ("the same command goes on from there" in capsys.readouterr().err) == can_succeed
    assert (tmp_path / ".survey_prediction.bixt3d_parts").is_dir() == can_succeed


def test_every_format_has_a_row_for_each_point_and_minus_1_where_there_is_no_position(tmp_path, capsys):
    run = write_scene_run(tmp_path / "run", features="")
    xyz = np.random.default_rng(0).random((50, 3)).astype(np.float32) * 20
    xyz[7] = np.nan
    np.save(tmp_path / "cloud.npy", xyz)
    formats = "ply,las,csv,txt,npz,npy"
    predict(
        tmp_path / "cloud.npy", "--checkpoint", run, "--out", tmp_path / "out", "--format", formats.replace("las,", "")
    )
    base = tmp_path / "out/cloud_prediction"
    label = np.load(f"{base}.npy")
    assert (label == -1).nonzero()[0].tolist() == [7] and len(label) == 50
    with np.load(f"{base}.npz") as found:
        assert np.array_equal(found["label"], label) and np.array_equal(found["xyz"], xyz, equal_nan=True)
        confidence, entropy = found["confidence"], found["entropy"]
    rows = np.loadtxt(f"{base}.txt")
    assert np.array_equal(rows[:, :3], xyz, equal_nan=True) and np.array_equal(rows[:, 3], label)
    np.testing.assert_allclose(rows[:, 4:], np.column_stack([confidence, entropy]), rtol=1e-5)
    head, *lines = (tmp_path / "out/cloud_prediction.csv").read_text().splitlines()
    assert (
        head == "x,y,z,label,name,confidence,entropy" and [int(line.split(",")[3]) for line in lines] == label.tolist()
    )
    ply = read_file(f"{base}.ply")[0].original
    assert np.array_equal(ply.columns["label"][:, 0], label) and "entropy" in ply.columns
    assert read_file(f"{base}.txt")[0].columns["label"].shape == (49, 1)


def test_each_note_has_a_line_and_classes_of_0_percent_have_none(tmp_path, run, capsys, monkeypatch):
    monkeypatch.setattr("bixt3d.inference.scenes.SHOWN", 0.4)
    rows = np.random.default_rng(0).random((300, 4)) * (20, 20, 3, 1)
    np.savetxt(tmp_path / "a.csv", 100 * rows, delimiter=",", header="x,y,z,return_number", comments="")
    predict(tmp_path / "a.csv", "--checkpoint", run)
    first, *lines = capsys.readouterr().out.splitlines()
    notes = load_run(run).predict(tmp_path / "a.csv").notes
    shares = load_run(run).predict(tmp_path / "a.csv").shares
    assert first == f"{tmp_path}/a.csv: 300 points" and "points lie" in notes[0]
    assert lines[: len(notes)] == [f"  note: {note}" for note in notes]
    assert [line.split()[1] for line in lines[len(notes) :]] == [name for name in shares if shares[name] >= 0.4]
    assert min(shares.values()) < 0.4


@pytest.mark.parametrize("block", [1500, 10**9])
def test_without_pictures_the_labelled_file_is_all_that_is_written(tmp_path, run, survey, monkeypatch, block):
    monkeypatch.setattr(ScenePredictor, "block", block)
    assert predict(survey, "--checkpoint", run, "--out", tmp_path, "--no_pictures") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["survey_prediction.laz"]
    with pytest.raises(InputError, match="--no_pictures needs --out FOLDER"):
        predict(survey, "--checkpoint", run, "--no_pictures")


def test_the_page_of_a_large_file_names_the_number_of_its_points(tmp_path, run, survey, monkeypatch):
    monkeypatch.setattr(ScenePredictor, "block", 1500)
    monkeypatch.setattr("bixt3d.datasets.scenes.blocks.SAMPLE", 1000)
    monkeypatch.setattr("bixt3d.viz.page.MAX_POINTS", 500)
    assert predict(survey, "--checkpoint", run, "--out", tmp_path) == 0
    page = (tmp_path / "survey_prediction.html").read_text()
    assert f"500 of {len(read_file(survey)[0]):,} points are shown" in page


def test_a_large_file_is_written_as_las_alone(tmp_path, run, survey, monkeypatch, capsys):
    monkeypatch.setattr(ScenePredictor, "block", 1500)
    assert predict(survey, "--checkpoint", run, "--out", tmp_path, "--format", "ply") == 2
    assert "--format las and laz alone are written" in capsys.readouterr().err
    assert predict(survey, "--checkpoint", run) == 0
    assert f"{len(read_file(survey)[0])} points" in capsys.readouterr().out
