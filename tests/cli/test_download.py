"""``bixt3d download``: what it lists, what it fetches, and the sets that it makes of meshes."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from local_server import Server, serving, zip_of

from bixt3d.cli.download import SETS, main
from bixt3d.datasets import ModelNetHDF5, PartHDF5
from bixt3d.datasets.download.archives import ARCHIVES, SAMPLED
from bixt3d.datasets.download.labelled_meshes import split_shapes, without_category
from bixt3d.types import InputError

FLAT = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n3 0 1\n3 1 1\n0 1 1\n3 0 1 2\n3 0 2 3\n3 4 5 6\n3 4 6 7\n"
"""Two rectangles: of area 1 at z = 0, of area 3 at z = 1; two triangles each."""
MESH = f"OFF\n8 4 0\n{FLAT}"
MODELNET = {
    "ModelNet10/README.txt": "ModelNet10",
    "ModelNet10/.DS_Store": "",
    "ModelNet10/bathtub/.DS_Store": "",
    "ModelNet10/bathtub/train/bathtub_0001.off": f"OFF8 4 0\n{FLAT}",
    "ModelNet10/bathtub/train/bathtub_0002.off": MESH,
    "ModelNet10/bathtub/test/bathtub_0107.off": MESH,
    "ModelNet10/chair/train/chair_0001.off": MESH,
    "ModelNet10/chair/test/chair_0890.off": MESH,
    "__MACOSX/ModelNet10/._.DS_Store": "",
}
LABELS = "body\n1 2 \nwing\n3 4 \n"


def psb_files() -> dict[str, str]:
    files = {}
    for category, first in (("Airplane", 61), ("Cup", 21)):
        for number in range(first, first + 10):
            files[f"LabeledDB_new/{category}/{number}.off"] = MESH
            labels = LABELS.replace("body", "airplane_body").replace("wing", "airplane_wing")
            files[f"LabeledDB_new/{category}/{number}_labels.txt"] = labels if category == "Airplane" else LABELS
    return files


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        for name in SAMPLED.values():
            archive = ARCHIVES[name.archive]
            monkeypatch.setitem(ARCHIVES, name.archive, replace(archive, urls=(server.url(archive.file),)))
        server.files |= {"ModelNet10.zip": zip_of(MODELNET), "labeledDb.7z": zip_of(psb_files())}
        yield server


def download(name: str, root: Path) -> Path:
    return main([name, "--root", str(root)])


def test_modelnet10_is_sampled_into_the_folder_and_files_that_its_configs_read(server, tmp_path, capsys):
    folder = download("modelnet10", tmp_path)
    assert folder == tmp_path / "modelnet10_ply_hdf5_1024"
    said = capsys.readouterr().out
    assert f"modelnet10 is ready in {folder}" in said
    assert "3 training and 2 test clouds (the official split has 3991 and 908) of 2 classes" in said
    assert "a new random sample of the official meshes, not the one of the figures in README" in said
    train, test = ModelNetHDF5(str(folder), features="normal", up="z").load()
    assert train.class_names == ("bathtub", "chair")
    assert (train.label.tolist(), test.label.tolist()) == ([0, 0, 1], [0, 1])
    assert train.xyz.shape == train.feats.shape == (3, 1024, 3)
    assert train.feats.abs().sum(dim=(0, 1)).tolist() == [0, 0, 3 * 1024]  # both rectangles lie flat
    assert "a new random sample" in (folder / "README.txt").read_text()
    assert (tmp_path / "ModelNet/ModelNet10/bathtub/train/bathtub_0001.off").is_file()


def test_points_are_spread_by_area(server, tmp_path):
    with h5py.File(download("modelnet10", tmp_path) / "ply_data_train0.h5") as file:
        data, label = file["data"][()], file["label"]
        assert (data.dtype, label.shape) == (np.float32, (3, 1))
        assert file["normal"].shape == data.shape
    upper = (data[:, :, 2] > 0).sum(axis=1)
    assert np.abs(upper - 0.75 * 1024).max() <= 2  # 3 of an area of 4
    assert np.abs(np.linalg.norm(data, axis=2).max(axis=1) - 1).max() < 1e-6
    assert not np.array_equal(data[0], data[1])  # equal meshes, but draws of their own


def test_a_mesh_gets_the_same_points_whatever_lies_beside_it(server, tmp_path):
    first = ModelNetHDF5(str(download("modelnet10", tmp_path / "a"))).load()[0]
    fewer = {name: text for name, text in MODELNET.items() if "bathtub_0001" not in name}
    server.files["ModelNet10.zip"] = zip_of(fewer)
    again = ModelNetHDF5(str(download("modelnet10", tmp_path / "b"))).load()[0]
    assert np.array_equal(first.xyz[1:], again.xyz)


def test_what_is_there_is_left_alone_and_meshes_that_are_there_are_not_fetched(server, tmp_path, capsys):
    folder = download("modelnet10", tmp_path)
    (folder / "README.txt").write_text("mine")
    download("modelnet10", tmp_path)
    assert (folder / "README.txt").read_text() == "mine" and "It was there already" in capsys.readouterr().out
    folder.rename(tmp_path / "aside")
    download("modelnet10", tmp_path)
    assert len(server.asked) == 1


def test_a_broken_mesh_is_named_and_no_half_of_a_set_is_left(server, tmp_path):
    server.files["ModelNet10.zip"] = zip_of(MODELNET | {"ModelNet10/chair/test/chair_0890.off": "OFF8 4 0\n0 0"})
    with pytest.raises(InputError, match=r"chair_0890.off is not a mesh that can be sampled: it ends before its 8"):
        download("modelnet10", tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["ModelNet", "ModelNet10.zip.sha256"]
    (tmp_path / "ModelNet/ModelNet10/chair/test/chair_0890.off").write_text(MESH)
    assert len(ModelNetHDF5(str(download("modelnet10", tmp_path))).load()[1]) == 2
    assert len(server.asked) == 1


def test_a_large_set_is_written_in_several_files(server, tmp_path, monkeypatch):
    monkeypatch.setattr("bixt3d.datasets.download.sampled.CLOUDS_PER_FILE", 2)
    folder = download("modelnet10", tmp_path)
    assert (folder / "train_files.txt").read_text().split() == ["ply_data_train0.h5", "ply_data_train1.h5"]
    assert ModelNetHDF5(str(folder)).load()[0].label.tolist() == [0, 0, 1]


def test_psb_becomes_clouds_with_parts_in_the_files_that_its_configs_read(server, tmp_path, capsys):
    folder = download("psb", tmp_path)
    assert folder == tmp_path / "psb_partseg"
    said = " ".join(capsys.readouterr().out.split())
    assert "14 train, 2 val, 4 test shapes of 2 categories and 4 parts, each of 4096 points with normals" in said
    assert "a new split into training and test shapes, not those of the figures in README" in said
    train, test = PartHDF5(str(folder), features="normal", include_val=False).load()
    assert (len(train), len(test)) == (14, 4)
    assert train.class_parts == {"Airplane": (0, 1), "Cup": (2, 3)}
    assert train.part_names == ("Airplane/body", "Airplane/wing", "Cup/body", "Cup/wing")
    for clouds in (train, test):
        upper = clouds.xyz[:, :, 2] > 0
        assert (clouds.parts % 2 == upper).all()  # body at z = 0, wing at z = 1
        assert (clouds.parts // 2 == clouds.label[:, None]).all()


def test_faces_without_a_label_or_with_two_are_left_out_and_their_meshes_named(server, tmp_path, capsys):
    files = psb_files()
    files["LabeledDB_new/Cup/21_labels.txt"] = "body\n1\nwing\n3 4\n"
    files["LabeledDB_new/Cup/22_labels.txt"] = "body\n1 2\nwing\n2 3 4\n"
    del files["LabeledDB_new/Cup/23_labels.txt"]
    server.files["labeledDb.7z"] = zip_of(files)
    download("psb", tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "Left out: 1 meshes without labels." in said
    assert "Faces with no label, or with two, are left out of" in said and "Cup/21.off" in said and "Cup/22.off" in said


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("body\n1 2\nwing\n", "must contain pairs of lines"),
        ("body\n1 two\n", "must contain pairs of lines"),
        ("body\n1 2 3 4 5\n", "its labels name face 5"),
        ("bo\x1bdy\n1 2\n", "a name has 1 to 200 characters that can be printed"),
    ],
)
def test_labels_that_do_not_fit_are_refused_and_nothing_is_made(labels, reason, server, tmp_path):
    server.files["labeledDb.7z"] = zip_of(psb_files() | {"LabeledDB_new/Cup/30_labels.txt": labels})
    with pytest.raises(InputError, match=reason) as caught:
        download("psb", tmp_path)
    assert "Cup/30" in str(caught.value) and str(caught.value).isprintable()
    assert not (tmp_path / "psb_partseg").exists()


def test_every_category_has_the_same_shares_of_a_split():
    shapes = [Path(f"{category}/{number}.off") for category in ("Cup", "Fish") for number in range(20)]
    splits = split_shapes(shapes)
    assert {split: len(paths) for split, paths in splits.items()} == {"train": 28, "val": 4, "test": 8}
    assert sorted(path for paths in splits.values() for path in paths) == sorted(shapes)
    assert sum(path.parent.name == "Cup" for path in splits["test"]) == 4


def test_names_of_parts_lose_the_name_of_their_category_alone():
    assert without_category("airplane_wing", {"airplane_wing", "airplane_body"}) == "wing"
    assert without_category("upper_arm", {"upper_arm", "head"}) == "upper_arm"
    assert without_category("upper_arm", {"upper_arm", "lower_arm"}) == "upper_arm"


def test_a_7z_archive_is_unpacked_by_py7zr(server, tmp_path):
    py7zr = pytest.importorskip("py7zr", reason="needs py7zr")
    with py7zr.SevenZipFile(tmp_path / "labeledDb.7z", "w") as file:
        for name, text in psb_files().items():
            file.writestr(text, name)
    assert (download("psb", tmp_path) / "test.h5").is_file()
    assert server.asked == []


@pytest.mark.parametrize("name", ["LabeledDB_new/a.pkl", "LabeledDB_new/c:evil.txt", "bomb"])
def test_a_7z_archive_that_is_unsafe_or_damaged_is_refused(name, server, tmp_path):
    py7zr = pytest.importorskip("py7zr", reason="needs py7zr")
    with py7zr.SevenZipFile(tmp_path / "labeledDb.7z", "w") as file:
        file.writestr(b"0" * (80_000_000 if name == "bomb" else 1), name)
    with pytest.raises(
        InputError, match="labeledDb.7z is not the file to use \\(it (contains the unsafe|would unpack)"
    ):
        download("psb", tmp_path)
    (tmp_path / "labeledDb.7z").write_bytes((tmp_path / "labeledDb.7z").read_bytes()[:-9])
    with pytest.raises(InputError, match="labeledDb.7z is not the file to use \\(it is damaged"):
        download("psb", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["labeledDb.7z"]


def test_without_py7zr_a_sentence_says_what_to_install_and_the_archive_is_not_fetched_again(
    server, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "py7zr", None)
    server.files["labeledDb.7z"] = b"7z\xbc\xaf\x27\x1c and more"
    with pytest.raises(InputError, match=r"which py7zr unpacks: run `pip install 'bixt3d\[psb\]'`"):
        download("psb", tmp_path)
    assert (tmp_path / "labeledDb.7z.part").is_file()


def test_help_lists_every_set_with_its_size_and_imports_no_torch():
    code = "import sys, bixt3d.cli.download as d\ntry: d.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    for name, one in SETS.items():
        assert f"  {name} " in done.stdout and f"({one.size})" in done.stdout
    assert "for research" in done.stdout


def test_help_knows_the_sets_and_folders_that_there_are():
    assert {name: one.folder for name, one in SETS.items()} == {n: a.folder for n, a in (ARCHIVES | SAMPLED).items()}


def test_a_name_that_is_unknown_is_refused_with_those_that_are_known():
    with pytest.raises(InputError, match="invalid choice: 'modelnet41' .*modelnet40"):
        main(["modelnet41"])


def test_the_layouts_of_data_sets_and_of_own_data_come_with_bixt3d(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--layouts"])
    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(words in said for words in ("modelnet40_ply_hdf5_2048/", "Your own clouds", "Images"))


def test_a_missing_set_names_the_command_that_makes_it(tmp_path):
    for source, name in ((ModelNetHDF5, "modelnet10"), (PartHDF5, "psb")):
        with pytest.raises(InputError, match=f"run `bixt3d download {name} --root {tmp_path}`"):
            source(str(tmp_path / SAMPLED[name].folder)).load()
