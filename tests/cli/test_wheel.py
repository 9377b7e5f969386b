"""A wheel, installed outside the checkout, does by `bixt3d` alone all that one does with a model."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bixt3d.io.named_configs import known_configs
from bixt3d.io.pretrained import known_pretrained

ROOT = Path(__file__).parents[2]
SMALL = "--data.train_per_class=2 --data.test_per_class=1 --data.num_points=64 --model.encoder.depth=1 "
SMALL += "--train.epochs=1 --train.batch_size=16 --runtime.accelerator=cpu --runtime.threads=1"
Run = Callable[..., str]

pytestmark = pytest.mark.slow


def run(*command: object, **options) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Return a wheel of the checkout, built where nothing but its sources lies."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for name in ("bixt3d", "cfgs"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    (sources / "data").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "data/README.md"):
        shutil.copy(ROOT / name, sources / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", sources)
    return next(folder.glob("bixt3d-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory) -> Run:
    """Return a function that runs the command `bixt3d` of an environment with the wheel, or code."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home / "env", with_pip=False)
    python = home / "env" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib"))  # theirs are not installed again
    (site / "open3d.py").write_text("raise ImportError('no extra brings it')")  # matplotlib draws, as for most
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", f"--python={python}"]
    run(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", wheel)
    (home / "work").mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def command(*arguments: object, code: str = "") -> str:
        options = {"cwd": home / "work", "env": environment | {"OMP_NUM_THREADS": "1"}}
        return run(*([python, "-c", code] if code else [python.with_name("bixt3d"), *arguments]), **options)

    place = run(python, "-c", "import bixt3d; print(bixt3d.__file__)", cwd=home / "work", env=environment)
    assert Path(place.strip()).is_relative_to(site)
    command.folder = home / "work"
    return command


def test_the_wheel_holds_package_and_configs_and_nothing_else(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"bixt3d"}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bixt3d").rglob("*.py")}
    configs = {f"bixt3d/cfgs/{name}.yaml" for name in known_configs()}
    weights = {
        f"bixt3d/pretrained/{name}/{one}" for name in known_pretrained() for one in ("model.safetensors", "README.md")
    }
    assert modules | configs | weights | {"bixt3d/data/README.md", "bixt3d/py.typed"} <= set(names)
    assert len(weights) >= 10
    assert len(configs) > 20 and not [name for name in names if name.endswith((".npz", ".h5", ".pyc"))]


def test_bixt3d_alone_trains_tests_predicts_draws_and_exports(installed: Run):
    folder: Path = installed.folder
    assert "modelnet40_ply_hdf5_2048/" in installed("download", "--layouts")
    np.savetxt(folder / "cloud.xyz", np.random.default_rng(0).normal(size=(100, 3)))
    lines = [f"train cls --cfg shapes_cls --run_dir runs/a {SMALL}"]
    lines += ["test", "predict cloud.xyz --out predictions"]  # of the newest run, whatever its task
    lines += ["predict cloud.xyz --checkpoint shapes-cls", "list models --pretrained"]  # no network, no training
    lines += ["visualize runs/a --count 1", "export runs/a --format torch"]
    said = installed(code=f"from bixt3d.cli.main import call\nfor line in {lines}: call(line.split())")
    assert "report: runs/a/report.html" in said
    assert "bixt3d train cls --cfg runs/a/config.yaml" in (folder / "runs/a/report.html").read_text()
    assert "report: runs/a/test/report.html" in said
    assert "cloud.xyz: 100 points" in said
    assert {path.suffix for path in (folder / "predictions").iterdir()} == {".ply", ".png", ".html", ".js"}
    assert "runs/a/pictures/classes.png" in said
    assert "runs/a/model.pt2" in said
