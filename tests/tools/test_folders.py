"""A folder of people's own files: trained, tested and predicted by commands alone."""

import json
from pathlib import Path

import laspy
import numpy as np
import pytest
import trimesh

import bixt3d
from bixt3d.cli import predict, train
from bixt3d.cli import test as test_command
from bixt3d.datasets.clouds.folder_files import list_folder
from bixt3d.inference.runs import load_run
from bixt3d.tasks.classification import Classification

SMALL = (
    "--data.num_points=64",
    "--data.stored_points=128",
    "--model.tokenizer.num_groups=8",
    "--model.encoder.depth=1",
    "--train.epoch_steps=3",
    "--train.eval_every=3",
    "--runtime.accelerator=cpu",
    "--runtime.threads=1",
)
ENDINGS = ("ply", "obj", "off", "pcd", "xyz", "laz")


def write(path: Path, size: tuple[float, float, float], color: bool, rng: np.random.Generator) -> None:
    """Write a box of this size, as a mesh or as points on its surface; points with or without color."""
    mesh = trimesh.creation.box(extents=size * rng.uniform(0.9, 1.1, 3))
    xyz = trimesh.sample.sample_surface(mesh, 150, seed=int(rng.integers(1 << 30)))[0]
    rgb = rng.integers(256, size=(150, 3)) if color else np.zeros((150, 0))
    if path.suffix in (".obj", ".off"):
        mesh.export(path)
    elif path.suffix == ".ply":
        trimesh.PointCloud(xyz, rgb if color else None).export(path)
    elif path.suffix == ".laz":
        las = laspy.create(point_format=2)
        las.header.offsets, las.header.scales = xyz.min(0), [1e-4] * 3
        las.x, las.y, las.z = xyz.T
        if color:
            las.red, las.green, las.blue = 257 * rgb.T
        las.write(path)
    elif path.suffix == ".pcd":
        head = (
            "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 150\nHEIGHT 1\nPOINTS 150\nDATA ascii"
        )
        np.savetxt(path, xyz, header=head, comments="")
    else:
        np.savetxt(path, np.c_[xyz, rgb], header="x y z r g b" if color else "x y z")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory) -> Path:
    """Return a folder of 60 files of six formats: flat, long and cubic boxes."""
    root, rng = tmp_path_factory.mktemp("boxes"), np.random.default_rng(0)
    for name, size in {"cube": (1, 1, 1), "plate": (1, 1, 0.1), "rod": (1, 0.1, 0.1)}.items():
        for place in range(20):
            path = root / ("test" if place % 3 == 2 else "train") / name / f"{place}.{ENDINGS[place % 6]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, size, bool(place % 4), rng)
    return root


def test_sixty_mixed_files_train_test_and_predict_without_code(boxes: Path, tmp_path: Path, capsys, monkeypatch):
    assert len(list_folder(boxes, 0.2, 0).entries) == 60
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    folder = train.main(
        ["cls", "--cfg=folder_cls", f"--data.root={boxes}", "--run_dir=runs/boxes", *SMALL, "--train.steps=9"]
    )
    said = capsys.readouterr().out
    assert "columns that are not read:" in said and "epochs 1 to 3" in said
    result = test_command.main(["cls"])
    assert result["checkpoint"].startswith("runs/boxes") and set(result["per_class"]) == {"cube", "plate", "rod"}
    capsys.readouterr()
    assert predict.main([str(boxes / "test"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 18 and {Path(line["file"]).suffix[1:] for line in lines} >= {"off", "laz"}
    assert load_run(folder).facts()["up"] == "z"


def test_parts_in_folders_train_with_ignored_labels_and_weights_and_predict_by_folder(tmp_path: Path, capsys):
    rng, root = np.random.default_rng(0), tmp_path / "parts"
    for split in ("train", "test"):
        for name in ("mug", "table"):
            (root / split / name).mkdir(parents=True)
            for place in range(2):
                xyz = rng.random((150, 3))
                label = (xyz[:, 0] * 3).astype(int) + (0 if name == "mug" else 7)
                np.savez(root / split / name / f"{place}.npz", xyz=xyz, label=label)
    options = ["--model.decoder.dims=[8]", "--model.decoder.num_blocks=[1]", "--train.steps=6", "--data.ignore=0"]
    out = f"--run_dir={tmp_path / 'run'}"
    folder = train.main(["partseg", "--cfg=folder_partseg", f"--data.root={root}", out, *SMALL, *options])
    result = json.loads((folder / "result.json").read_text())
    assert set(result["per_part"]["mug"]) == {"1", "2"} and set(result["per_part"]["table"]) == {"7", "8", "9"}
    assert all(0 <= iou <= 1 for parts in result["per_part"].values() for iou in parts.values())
    said = capsys.readouterr().out
    assert "part IoU" in said and "points have a label that is ignored" in said
    page = (folder / "report.html").read_text()
    assert "category, part" in page
    assert predict.main([str(root / "test"), f"--checkpoint={folder}"]) == 0
    assert "mug/0.npz: 150 points, mug\n  note: category of its folder\n" in capsys.readouterr().out
    full = test_command.main(["partseg", str(folder), "--full"])
    assert 0 <= full["instance_miou"] <= 1


def test_a_data_set_of_a_program_trains(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)
    rng = np.random.default_rng(0)
    samples = [(rng.random((80, 3)) * (1, 1, place % 2 + 0.1), None, place % 2) for place in range(10)]
    settings = dict(option.removeprefix("--").split("=") for option in SMALL)
    folder = bixt3d.train("folder_cls", data=samples, run_dir=tmp_path / "run", **settings | {"train.steps": "3"})
    assert "20% of each class, drawn with seed 0, are the test set" in capsys.readouterr().out
    assert bixt3d.load_run(folder).class_names == ("class 0", "class 1")
    with pytest.raises(bixt3d.InputError, match="were given by a Python program"):
        test_command.main(["cls", str(folder)])
