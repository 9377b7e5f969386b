"""README and the pages of docs: links lead somewhere, the tree is the tree, settings exist, and code blocks run."""

import inspect
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from bixt3d import CloudSource, ImageSource, SegmentationSource
from bixt3d.cli import compare_run
from bixt3d.cli.choice import find
from bixt3d.cli.main import COMMANDS, call
from bixt3d.datasets.scenes.relief import NARROW
from bixt3d.datasets.scenes.source import SceneSource
from bixt3d.datasets.scenes.tiles import write_tile
from bixt3d.io.known_classes import known_classes
from bixt3d.io.named_configs import config_file
from bixt3d.models.features import FeatureModel
from bixt3d.tasks import TASKS, find_task
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.command import parse_command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "data/README.md", "examples/README.md", "benchmarks/README.md")]
PAGES += [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
RESULTS = "docs/results.md"  # its commands are those of the commits that it names

SMALL = ["--data.train_per_class=2", "--data.test_per_class=1", "--data.num_points=128", "--train.epochs=1"]
SMALL += ["--model.encoder.depth=1"]
WORDS = """
    test-time augmentation|TTA|activation checkpointing|reference implementation|SyncBatchNorm|mixed precision|
    fine-tuning|exponential moving average|gradient accumulation|torch.compile|ONNX|point cloud classification|
    part segmentation|semantic segmentation|Perceiver|PointMLP|farthest point sampling|kNN|ModelNet40|ShapeNetPart|
    PyTorch Geometric|timm
"""


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page in a language; '' stands for those without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", read(page), flags=re.MULTILINE | re.DOTALL)
    return [text for of, text in found if of == language]


def commands(page: str) -> list[str]:
    """Return the lines of blocks that are commands of bixt3d, without comments."""
    text = "".join(blocks(page, "") + blocks(page, "bash"))
    lines = re.sub(r"\\\n *", "", text).splitlines()
    return [re.sub(r"\s+#.*", "", line) for line in lines if line.startswith("bixt3d ")]


EVERY = [(page, command) for page in NAMES if page != RESULTS for command in commands(page)]


def test_the_page_on_scenes_says_how_wide_the_narrowest_hills_are():
    assert f"from {2 * NARROW:.0f} voxels wide" in read("docs/scenes.md")


def make_scans(folder: Path) -> None:
    """Do what the page on scenes says, up to a run."""
    exec(blocks("docs/scenes.md", "python")[0], {})
    (folder / "my_scans/classes.yaml").write_text(blocks("docs/scenes.md", "yaml")[0])
    (train,) = [line for line in commands("docs/scenes.md") if line.startswith("bixt3d train")]
    tiny = ["--data.grid=2", "--data.num_points=512", "--data.crops=4", "--train.epochs=1", "--model.encoder.depth=1"]
    call([*shlex.split(train)[1:], *tiny])


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """Return a folder with the run and the files that pages speak of."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_scans(folder)  # first: commands without a run take the newest, a classifier
        patch.setattr(Classification, "write_report", lambda *_: None)  # commands of the pages draw some
        call(["train", "cls", "--cfg", "shapes_cls", "--run_dir", "runs/demo", *SMALL])
        for name in ("a", "b", "mine"):
            shutil.copytree("runs/demo", f"runs/{name}")
    xyz = np.random.default_rng(0).normal(size=(300, 3))
    np.savetxt(folder / "scan.xyz", xyz)
    (folder / "scan.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 300\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
        + (folder / "scan.xyz").read_text()
    )
    write_tile(folder / "survey.laz", seed=0)
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "meshes").mkdir()
    shutil.copy(folder / "scan.ply", folder / "meshes/other.ply")
    for place in ("train/cup", "train/mug", "test/cup", "test/mug"):
        (folder / "my_clouds" / place).mkdir(parents=True)
        shutil.copy(folder / "scan.ply", folder / "my_clouds" / place / "1.ply")
        (folder / "my_parts" / place).mkdir(parents=True)
        np.savez(folder / "my_parts" / place / "1.npz", xyz=xyz, label=(xyz[:, 0] > 0).astype(int))
    return folder


def test_pages_have_commands_and_code_to_run():
    assert len([1 for page, _ in EVERY if page == "README.md"]) > 10
    assert blocks("README.md", "python") and len(blocks("docs/python.md", "python")) > 4


@pytest.mark.parametrize("command", dict.fromkeys(command for _, command in EVERY))
def test_a_command_runs(command, workplace, tmp_path, monkeypatch, capsys):
    """Training on data that are not here is started up to its settings; downloads are not started."""
    monkeypatch.chdir(workplace)
    verb, *words = shlex.split(command)[1:]
    assert verb in COMMANDS
    if verb == "download":
        return
    if words[:1] == ["run"]:
        given, settings = compare_run.make_parser().parse_known_args(words[1:])
        assert [plan.state for plan in compare_run.make_plans(given, settings)] == ["new"] * len(given.cfgs)
        return
    if verb != "train":
        call([verb, *words])
        assert capsys.readouterr().out
        return
    config = words[words.index("--cfg") + 1] if "--cfg" in words else ""
    if config.startswith("shapes") and "--runtime.devices" not in words:  # several processes end the one they began in
        monkeypatch.chdir(tmp_path)
        call([verb, *words, *SMALL])
        return
    if "--run_dir" in words:  # the folder already has a run, which other commands read
        place = words.index("--run_dir")
        del words[place : place + 2]
    assert parse_command(find(words[0]), None, words[1:])


@pytest.mark.parametrize("page", [page for page in NAMES if blocks(page, "python")])
def test_python_of_a_page_runs_from_its_first_block_to_its_last(page, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    names = {"points": np.random.default_rng(0).normal(size=(200, 3))}
    for block in blocks(page, "python"):
        exec(block, names)


@pytest.mark.parametrize("page", NAMES)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://)([^)#]+)", read(page))
    assert not [link for link in links if not ((ROOT / page).parent / link).exists()]


@pytest.mark.parametrize("page", [page for page in NAMES if page != RESULTS])
def test_configs_and_programs_that_a_page_names_are_there(page):
    text = read(page)
    for config in re.findall(r"--cfg ([\w/.]+)", text):
        assert (ROOT / config).is_file() if "/" in config else config == "NAME" or config_file(config)
    for program in re.findall(r"python ((?:tools|examples|benchmarks)/\w+\.py)", text):
        assert (ROOT / program).is_file()


def test_settings_that_pages_name_are_settings():
    known = {action.dest for name in TASKS for action in find_task(name).make_parser("")._actions}
    sources = [
        one for one in known_classes() if issubclass(one, CloudSource | SceneSource | ImageSource | SegmentationSource)
    ]
    known |= {f"data.{name}" for one in sources for name in inspect.signature(one).parameters}
    models = [one for one in known_classes() if issubclass(one, FeatureModel)]
    known |= {f"model.{name}" for one in models for name in inspect.signature(one).parameters}
    named = {
        (page, setting)
        for page in NAMES
        for setting in re.findall(r"--((?:data|train|optim|runtime|augment|model)\.\w+)", read(page))
    }
    assert named and not {one for one in named if one[1] not in known}


def test_the_tree_of_the_readme_is_the_tree():
    (tree,) = [block for block in blocks("README.md", "") if block.startswith("bixt3d/")]
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if line[0] != " "}
    rooms = {f"bixt3d/{path.name}" for path in (ROOT / "bixt3d").iterdir() if (path / "__init__.py").is_file()}
    ours = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))]
    tracked = {path.name for path in ours if path.name not in ("bixt3d", "runs", "build", "dist", "shared")}
    assert named == rooms | {name for name in tracked if not name.endswith(".egg-info")}


@pytest.mark.parametrize("word", [word.strip() for word in WORDS.split("|")])
def test_a_search_for_the_term_of_the_field_finds_the_readme(word):
    assert word.lower() in " ".join(read("README.md").split()).lower()
