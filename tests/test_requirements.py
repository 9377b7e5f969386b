"""What is installed: the core is enough for models and files of clouds, extras bring the rest, and say so."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from written_runs import write_run

from bixt3d import create_model
from bixt3d.datasets.files.writers import write_ply
from bixt3d.io.extras import EXTRAS, need, what_to_install
from bixt3d.types import InputError

ROOT = Path(__file__).parents[1]
FASTER_OR_NICER = {"open3d", "py7zr", "torch_cluster", "triton"}
"""Used where they are installed, and never needed."""
IMPORTED_AS = {
    "docstring-parser": ["docstring_parser"],
    "huggingface-hub": ["huggingface_hub"],
    "lightning-fabric": ["lightning_fabric"],
    "onnxscript": ["onnxscript", "onnx_ir"],
    "pillow": ["PIL"],
    "pyyaml": ["yaml"],
    "torch-geometric": ["torch_geometric"],
}
CONFIG = """
data: {class_path: Shapes, init_args: {num_points: 64}}
model:
  class_path: BixtClassifier
  init_args:
    tokenizer: {class_path: PointTokenizer, init_args: {dim: 16}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4}}
"""


def declared() -> dict[str, set[str]]:
    """Return the packages of the core (by the name ``""``) and of each extra, as they are imported."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = {"": project["dependencies"], **project["optional-dependencies"]}

    def modules(extra: str) -> set[str]:
        found: set[str] = set()
        for line in listed[extra]:
            name = re.match(r"[\w-]+", line)[0]
            if name == "bixt3d":
                found |= {one for part in re.search(r"\[(.*)\]", line)[1].split(",") for one in modules(part)}
            else:
                found |= set(IMPORTED_AS.get(name, [name]))
        return found

    return {extra: modules(extra) for extra in listed}


def test_extras_are_what_the_package_says_is_missing():
    found = declared()
    core, whole = found.pop(""), found.pop("all")
    assert {extra: sorted(packages - core) for extra, packages in found.items()} == {
        extra: sorted(packages) for extra, packages in EXTRAS.items()
    }
    assert whole == set().union(*found.values()) and whole & core == {"torch"}  # some ask for a newer one


def test_every_package_that_is_imported_is_declared():
    imported = set()
    for path in (ROOT / "bixt3d").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.split(".")[0] for name in names}
    imported -= {*sys.stdlib_module_names, "__main__", "bixt3d"}
    asked_for_by_others = {"docstring_parser", "onnx", "tensorboard"}  # by jsonargparse, and by torch
    assert imported | asked_for_by_others == set().union(*declared().values()) | FASTER_OR_NICER


def test_requirements_install_every_extra_and_nothing_that_must_be_compiled():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "-e .[all]" in lines
    assert not [line for line in lines if line.startswith("torch-cluster")]
    assert [line for line in lines if line.startswith("#") and "requirements-cluster.txt" in line]
    assert "torch-cluster>=" in (ROOT / "requirements-cluster.txt").read_text(encoding="utf-8")


def test_a_missing_package_is_a_sentence_with_the_pip_line(monkeypatch: pytest.MonkeyPatch):
    need("pictures", "matplotlib", "plotly")
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(
        InputError, match=re.escape("package plotly, which is not installed: pip install 'bixt3d[viz]'")
    ):
        need("pictures", "matplotlib", "plotly")
    fault = ModuleNotFoundError("No module named 'timm.optim'", name="timm.optim")
    assert what_to_install(fault) == "this needs the package timm, which is not installed: pip install 'bixt3d[images]'"
    assert what_to_install(ModuleNotFoundError("No module named 'my_model'", name="my_model")) is None


CORE_ALONE = """
import sys
hidden = set(sys.argv[2].split(","))

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *rest):
        return None if name.split(".")[0] in hidden else self.finder.find_spec(name, *rest)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
import pathlib
import torch
import bixt3d
from bixt3d.cli.costs import count_cost
from bixt3d.cli.main import call
from bixt3d.cli.program import run_program

folder = pathlib.Path(sys.argv[1])
(tokens,) = bixt3d.PointTokenizer(16)(torch.rand(2, 64, 3), torch.empty(2, 64, 0))
bixt3d.BixtEncoder(16, 2, 2, 4)((tokens,))[0].sum().backward()
index = bixt3d.farthest_points(tokens.pos, 8)
bixt3d.interpolate(tokens.pos, bixt3d.gather(tokens.pos, index), bixt3d.gather(tokens.feats, index))
predictor = bixt3d.load_run(folder)
files = sorted(folder.glob("cloud.*"))
print(len(files), {predictor.predict(bixt3d.read_file(path)[0]).name for path in files} <= {*predictor.class_names})
clouds, _ = bixt3d.Shapes(1, 1, 64).load()
model, images = torch.nn.Linear(2, 2), folder / "images"
for use in (
    lambda: bixt3d.to_pyg(clouds),
    lambda: bixt3d.ImagePredictor(model, ["a"], 8),
    lambda: bixt3d.ImageFolder(str(images), 8).load(),
    lambda: bixt3d.ModelNetMeshes(str(folder)).load(),
    lambda: bixt3d.export_run(folder),
    lambda: count_cost(model, torch.zeros(1, 2)),
):
    try:
        use()
    except bixt3d.InputError as error:
        print(error)
train = ["train", "cls", f"--run_dir={folder / 'new'}", f"--cfg={folder / 'a.yaml'}"]
for program in (lambda: call(train), lambda: call(["visualize", str(folder)]), lambda: __import__("matplotlib")):
    try:
        run_program(program)
    except SystemExit as ending:
        print(ending.code)
"""


def test_the_core_alone_computes_reads_and_predicts_and_the_rest_says_what_to_install(tmp_path: Path):
    model = create_model(CONFIG, 2)
    torch.nn.init.normal_(model.head.weight)
    write_run(tmp_path / "model.safetensors", model, "classification", CONFIG, class_names=["cup", "mug"])
    (tmp_path / "a.yaml").write_text(CONFIG, encoding="utf-8")
    xyz = np.random.default_rng(0).random((64, 3))
    write_ply(tmp_path / "cloud.ply", xyz, {})
    np.savetxt(tmp_path / "cloud.xyz", xyz)
    np.savez(tmp_path / "cloud.npz", points=xyz)
    for name in ("train", "val"):
        (tmp_path / "images" / name / "cup").mkdir(parents=True)
        (tmp_path / "images" / name / "cup" / "1.png").write_bytes(b"")
    for split in ("train", "test"):
        (tmp_path / "ModelNet10" / "cup" / split).mkdir(parents=True)
        (tmp_path / "ModelNet10" / "cup" / split / "1.off").write_text(
            "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", encoding="utf-8"
        )
    hidden = ",".join({*FASTER_OR_NICER, *(package for packages in EXTRAS.values() for package in packages)})
    command = [sys.executable, "-W", "ignore", "-c", CORE_ALONE, str(tmp_path), hidden]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[:1] == ["3 True"], done.stderr
    extras = [
        found[1] if (found := re.search(r"pip install ['\"]bixt3d\[(\w+)\]['\"]$", one)) else one for one in lines[1:]
    ]
    assert extras == ["pyg", "images", "images", "pyg", "export", "export", "2", "2", "2"], done.stdout + done.stderr
    assert re.findall(r"pip install 'bixt3d\[(\w+)\]'", done.stderr) == ["train", "train", "viz"]
    assert not (tmp_path / "new").exists()
