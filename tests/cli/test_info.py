"""``bixt3d info``: what a run and a file hold, said truly."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from safetensors.torch import load_file
from written_runs import write_run_folder, write_seeds

from bixt3d.cli.compare import main as compare
from bixt3d.cli.info import main
from bixt3d.io.weights import save_weights

SQUARE = "OFF\n4 1 0\n0 0 0\n2 0 0\n2 3 0\n0 3 0\n4 0 1 2 3\n"


def told(capsys, *words: object) -> str:
    assert main(list(map(str, words))) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_finished_run_says_what_it_is_how_good_it_was_and_what_to_do_next(tmp_path, capsys):
    run = write_run_folder(tmp_path / "run", [0.5, 0.9, 0.8])
    said = told(capsys, run)
    for words in (
        f"{run}: a run, finished",
        "BixtClassifier",
        "classes 3: bed, car, mug",
        "reads 64 points, y up",
        "features none: positions alone",
        "epoch 3 of 3, seed 0, 100 s, 50 clouds/s",
        "overall accuracy 80.00%, mean accuracy 40.00% (last epoch, test set)",
        "chosen on it, so do not report it: overall accuracy 90.00% (epoch 2)",
        "bixt3d 0.1.0, torch 2.14, commit abc1234",
        "model.safetensors: the last epoch",
        "files config.yaml, metrics.csv, result.json, run.json",
        f"next bixt3d test cls {run} bixt3d predict FILE --checkpoint {run} bixt3d export {run}",
    ):
        assert words in said
    parameters = json.loads((run / "result.json").read_text())["parameters"]
    assert f"{parameters:,} parameters" in said and "--resume" not in said


def test_an_unfinished_run_says_so_and_how_to_go_on(tmp_path, capsys):
    run = write_run_folder(tmp_path / "run", [0.5, 0.9])
    said = told(capsys, run)
    assert "a run, unfinished, epoch 2 of 3" in said
    assert "overall accuracy 90.00% (epoch 2)" in said
    assert f"next bixt3d train cls --resume {run}" in said


def test_a_folder_of_runs_is_no_run_and_its_runs_are_named(tmp_path, capsys):
    run = write_run_folder(tmp_path / "run", [0.5])
    assert main([str(tmp_path)]) == 2
    assert f"has no run (no run.json and no model.safetensors): name one of {run}\n" in capsys.readouterr().err


def test_epochs_are_not_counted_out_of_steps(tmp_path, capsys):
    done, begun = write_run_folder(tmp_path / "done", [0.5, 0.9, 0.8]), write_run_folder(tmp_path / "begun", [0.5, 0.9])
    for run in (done, begun):
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("{epochs: 3}", "{steps: 60}"))
    assert "trained epoch 3, 60 steps, seed 0" in told(capsys, done)
    assert "a run, unfinished, epoch 2, 60 steps planned task" in told(capsys, begun)
    compare([str(begun)])
    assert "| 2, 60 steps planned, unfinished |" in capsys.readouterr().out


def test_a_run_that_was_trained_longer_and_stopped_is_not_finished(tmp_path, capsys):
    run = write_run_folder(tmp_path / "run", [0.5, 0.9, 0.8])
    with (run / "metrics.csv").open("a") as file:
        file.write("4,0.7,0.6\n")
    assert "unfinished, epoch 4 of 3" in told(capsys, run)


def test_weights_alone_describe_their_model(tmp_path, capsys):
    weights = write_run_folder(tmp_path / "run", [0.5, 0.9, 0.8]) / "model.safetensors"
    alone = weights.rename(tmp_path / "alone.safetensors")
    said = told(capsys, alone)
    assert f"{alone}: the weights of a run task classification" in said
    assert "classes 3: bed, car, mug" in said and f"bixt3d test cls {alone}" in said and "scores" not in said


def test_scalars_come_with_the_statistics_of_their_training_set(tmp_path, capsys):
    run = write_run_folder(tmp_path / "run", [0.5, 0.9, 0.8], features="normal,intensity")
    path = run / "model.safetensors"
    weights, name = load_file(path), "tokenizer.feature_scale.mean"
    name = next(key for key in weights if key.endswith(".mean") and len(weights[key]) == 4)
    weights[name] = torch.tensor([0.0, 0, 0, 12.5])
    from bixt3d.io.weights import load_metadata

    metadata = load_metadata(path)
    metadata.pop("checksum")
    save_weights(path, weights, metadata)
    said = told(capsys, run)
    assert "normal (normal, width 3) intensity (scalar, width 1), over the training set 12.5 +- 1" in said


def test_several_seeds_give_their_mean_and_their_runs(tmp_path, capsys):
    run = write_seeds(tmp_path / "run", [0.1, 0.2, 0.5], [0.1, 0.2, 0.7])
    said = told(capsys, run)
    assert "a run of seeds 0, 1, finished, 2 seeds" in said
    assert "overall accuracy 60.00% +- 14.14%" in said
    assert f"{run}/seed0: finished {run}/seed1: finished" in said
    shutil.rmtree(run / "seed1")
    said = told(capsys, run)
    assert "unfinished, 1 of 2 seeds finished" in said and f"{run}/seed0: finished {run}/seed1: no run" in said


def test_damaged_weights_are_not_described(tmp_path, capsys):
    run = write_run_folder(tmp_path / "run", [0.5, 0.9, 0.8])
    content = bytearray((run / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (run / "model.safetensors").write_bytes(content)
    assert main([str(run)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_mesh_says_its_faces_and_what_is_guessed(tmp_path, capsys):
    (tmp_path / "square.off").write_text(SQUARE)
    said = told(capsys, tmp_path / "square.off")
    assert "a mesh (.off) points 10,000, spread over its faces for reading faces 2 triangles" in said
    assert "normal normal, 3 x float64 0 to 1" in said
    assert "units not said; perhaps metres" in said and "up the file does not say" in said


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_a_gltf_says_the_unit_and_the_axis_that_its_format_defines(tmp_path, capsys, suffix):
    path = tmp_path / f"box{suffix}"
    trimesh.creation.box().export(path, file_type="glb")  # the content says which of the two it is
    assert "units metres, as the format defines up y, as glTF defines it" in told(capsys, path)


def test_a_cloud_of_a_map_says_columns_bounds_and_the_guess(tmp_path, capsys):
    np.savetxt(tmp_path / "far.xyz", [[512701.25, 5403550, 100, 7], [512702.25, 5403552, 103, 9]], fmt="%.2f")
    with_header = "x y z intensity\n" + (tmp_path / "far.xyz").read_text()
    (tmp_path / "far.xyz").write_text(with_header)
    said = told(capsys, tmp_path / "far.xyz")
    assert "a cloud (.xyz) points 2 columns intensity float64 7 to 9" in said
    assert "min x 512701.25, y 5403550, z 100" in said and "size x 1, y 2, z 3" in said
    assert "coordinates of a map" in said


def test_a_file_of_many_clouds_is_one_answer_with_what_was_not_read(tmp_path, capsys):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(5, 20, 3)).astype(np.float32)
        file["label"] = np.arange(5)
    said = told(capsys, tmp_path / "set.h5")
    assert "5 clouds (.h5) points 20 each columns none beside x, y, z" in said and "notes label not read" in said


def test_an_image_says_its_size_and_that_it_is_turned(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (30, 20)).save(tmp_path / "photo.jpg", exif=exif)
    said = told(capsys, tmp_path / "photo.jpg")
    assert "an image (JPEG) pixels 30 x 20 colors L, read as RGB orientation read turned" in said


def test_one_line_of_json_for_each_place(tmp_path, capsys):
    run = write_run_folder(tmp_path / "run", [0.5, 0.9, 0.8])
    (tmp_path / "square.off").write_text(SQUARE)
    assert main([str(run), str(tmp_path / "square.off"), "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["place"] == str(run) and first["task"] == "classification"
    assert first["details"]["class_names"] == ["bed", "car", "mug"]
    assert first["details"]["result"]["overall_accuracy"] == 0.8
    details = second["details"]
    assert (details["clouds"], details["points"], details["columns"]) == (1, 10_000, ["normal"])
    assert details["ranges"] == {"normal": [0, 1]} and details["spacing"] is None
    assert second["size"] == pytest.approx({"x": 2, "y": 3, "z": 0}, abs=0.01)


@pytest.mark.parametrize("name", ["nothing", "empty.ply", "notes.docx", "broken.npz", "broken.safetensors", "folder"])
def test_what_cannot_be_read_is_a_sentence_and_exit_code_2_or_1_if_others_can(name, tmp_path, capsys):
    (tmp_path / "good.off").write_text(SQUARE)
    (tmp_path / "folder").mkdir()
    if name not in ("nothing", "folder"):
        (tmp_path / name).write_bytes(b"" if name == "empty.ply" else b"junk\x1b[31m")
    assert main([str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and len(said.err.splitlines()) == 1
    assert main([str(tmp_path / name), str(tmp_path / "good.off")]) == 1
    assert "a mesh (.off)" in capsys.readouterr().out


def test_names_do_nothing_to_a_terminal(tmp_path, capsys):
    bad = tmp_path / "a\x1b[31m\nb.off"
    bad.write_text(SQUARE)
    assert main([str(bad), str(tmp_path / "c\x1b[0m.off")]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "a\\x1b[31m\\nb.off: a mesh" in said.out
    assert Path(json.loads((main([str(bad), "--json"]), capsys.readouterr().out)[1])["place"]) == bad


def test_a_survey_says_its_form_columns_classes_spacing_and_units(tmp_path, capsys):
    pytest.importorskip("laspy", reason="needs laspy and lazrs: pip install 'bixt3d[lidar]'")
    from las_files import WKT, make_las, write_las_file

    las = make_las(7, 400, wkt=WKT)
    x, y = np.divmod(np.arange(400), 20)
    las.x, las.y, las.z = 650_000 + x / 2, 5_450_000 + y / 2, np.zeros(400)
    las.classification, las.overlap, las.withheld = (np.arange(400) % 4 == 0) * 4 + 2, *np.zeros((2, 400), np.uint8)
    said = told(capsys, write_las_file(tmp_path / "a.laz", las))
    for words in (
        "a cloud (.laz: LAS 1.4, point format 7) points 400 ",
        "classification uint8 2 to 6 (2: 75.0%, 6: 25.0%)",
        "rgb color, 3 x uint16 ",
        "0 everywhere: withheld, overlap",
        "spacing 0.5 (median distance to the nearest point)",
        "units metres, as its coordinate system says system Paris + height up z, as survey files have it",
    ):
        assert words in said


def test_a_large_survey_is_described_by_runs_of_its_points(tmp_path, capsys, monkeypatch):
    pytest.importorskip("laspy", reason="needs laspy and lazrs: pip install 'bixt3d[lidar]'")
    from las_files import make_las, write_las_file

    from bixt3d.datasets.files import las_large

    path = write_las_file(tmp_path / "a.las", make_las(1, 3000))
    whole = told(capsys, path)
    monkeypatch.setattr(las_large, "LARGE", 1000)
    part = told(capsys, path)
    assert "bounds as its header says; columns and spacing of 1,000 points in 10 places" in part
    assert part[: part.index("columns")] == whole[: whole.index("columns")] and "points 3,000" in part
    assert part[part.index("min") : part.index("spacing")] == whole[whole.index("min") : whole.index("spacing")]


def test_degrees_are_guessed_and_said(tmp_path, capsys):
    xyz = np.random.default_rng(0).random((50, 3)) * [0.01, 0.01, 30] + [8.5, 47.3, 400]
    np.savetxt(tmp_path / "a.xyz", xyz)
    assert "perhaps degrees of longitude and latitude" in told(capsys, tmp_path / "a.xyz")


def test_a_missing_run_or_file_is_refused_with_the_nearest_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["shapes-clss"]) == 2 and main(["scan.ply"]) == 2
    said = ["shapes-clss; did you mean 'shapes-cls'?", "scan.ply"]
    assert capsys.readouterr().err == "".join(f"error: there is no run or file {one}\n" for one in said)
