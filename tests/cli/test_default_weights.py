"""Which weights `bixt3d predict` takes without a run, by the files it is given."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bixt3d.cli import predict
from bixt3d.cli.default_weights import default_name, endings
from bixt3d.datasets.files.writers import write_ply
from bixt3d.datasets.scenes.tiles import write_tile
from bixt3d.types import InputError


@pytest.mark.parametrize(
    ("endings", "name"),
    [
        (".ply", "shapes-cls"),
        (".off .npz .xyz", "shapes-cls"),
        (".las", "aerial-scenes"),
        (".las .laz", "aerial-scenes"),
        (".laz .ply", ""),
        (".e57", ""),
        ("", None),
    ],
)
def test_endings_choose_the_weights_or_leave_it_open(endings, name):
    assert default_name(set(endings.split())) == name


def test_a_folder_counts_by_its_files(tmp_path):
    for name in ("a.PLY", "deep/b.las", "notes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {".ply", ".las"} <= endings([str(tmp_path)])


def test_without_a_run_a_cloud_is_taken_for_an_object_and_a_tile_for_a_survey(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savetxt("cloud.xyz", np.random.default_rng(0).normal(size=(50, 3)))
    predict.main(["cloud.xyz", "--json"])
    said = capsys.readouterr()
    assert "class" in json.loads(said.out)
    assert said.err.startswith(
        "weights: shapes-cls, which come with bixt3d and take each file for one object, of 16 cl"
    )
    assert "--checkpoint NAME, see bixt3d list models --pretrained" in said.err
    write_tile(tmp_path / "tile.laz", seed=0)
    predict.main(["tile.laz", "--json"])
    said = capsys.readouterr()
    assert {"ground", "building"} <= set(json.loads(said.out)["shares"])
    assert said.err.startswith("weights: aerial-scenes, which come with bixt3d and take each file for an aerial survey")


def test_what_is_not_clear_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.ply", "b.las", "c.e57", "d.png"):
        (tmp_path / name).touch()
    for places, sentence in {
        ("c.e57",): "it is not clear what c.e57 shows, an object, a room or a survey",
        ("a.ply", "b.las"): "a.ply, b.las have formats of surveys (.las) and of objects (.ply), which no weights read "
        "alike: predict them apart, or",
        (
            ".",
        ): ". has formats of surveys (.las) and of objects (.ply), which no weights read alike: predict them apart",
    }.items():
        with pytest.raises(InputError, match=re.escape(sentence)) as caught:
            predict.main(places)
        assert re.search("name weights, --checkpoint aerial-scenes, .*, or a run of yours$", str(caught.value))
    with pytest.raises(
        InputError, match="no run on images under runs/ yet: .*; or name weights, --checkpoint cifar10-sm"
    ):
        predict.main(["d.png"])
    (tmp_path / "runs/a").mkdir(parents=True)
    (tmp_path / "runs/a/model.safetensors").touch()
    (tmp_path / "runs/a/run.json").write_text("{")
    with pytest.raises(InputError, match="run.json is damaged"):  # and no other weights in place of this run
        predict.main(["a.ply"])


def test_a_single_cloud_is_written_to_the_file_that_out_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bixt3d.cli.predict_clouds.draw_shown", lambda *_: "nobody")
    for name in ("a.xyz", "b.xyz"):
        np.savetxt(name, np.random.default_rng(0).normal(size=(50, 3)))
    predict.main(["a.xyz", "--out", "new/out.csv"])
    (library,) = Path("new").glob("plotly-*.min.js")
    names = "new/out.csv, new/out_prediction.png, new/out_prediction.html"  # new/out.png may be another's
    assert f"written: {names}, {library}\n" in capsys.readouterr().out
    assert len((tmp_path / "new/out.csv").read_text().splitlines()) == 51
    for arguments, sentence in (
        (
            ["a.xyz", "b.xyz", "--out", "out.csv"],
            "--out out.csv is one file: for several files or formats name a folder",
        ),
        (["a.xyz", "--out", "out.csv", "--format", "ply"], "--out out.csv is one file: for several files or formats"),
        (["a.xyz", "--out", "out.csv", "--write", "classification"], "for LAS and LAZ, and --out out.csv is neither"),
        (["b.xyz", "--out", "new/../b.xyz"], "--out new/../b.xyz ends in none of .ply, .las, .laz, .csv"),
    ):
        with pytest.raises(InputError, match=sentence):
            predict.main(arguments)
    assert predict.main(["a.xyz", str(tmp_path / "a.xyz"), "--out", "out.csv"]) == 0  # one file, named twice
    assert capsys.readouterr().out.count("written: ") == 1
    np.savetxt("c.csv", np.random.default_rng(0).normal(size=(50, 3)), delimiter=",")
    with pytest.raises(InputError, match="--out new/../c.csv would replace the file that is predicted"):
        predict.main(["c.csv", "--out", "new/../c.csv"])
    write_ply(tmp_path / "e_colors.ply", np.loadtxt("c.csv", delimiter=","), {})
    with pytest.raises(InputError, match="--out e.ply would replace the file that is predicted"):
        predict.main(["e_colors.ply", "--out", "e.ply"])
    both = np.random.default_rng(0).normal(size=(2, 50, 3))
    np.savez("d.npz", xyz=both)
    assert predict.main(["d.npz", "--out", "out.csv"]) == 2
    assert "is one file, and d.npz holds several clouds: name a folder" in capsys.readouterr().err
