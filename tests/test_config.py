"""Settings: every config runs, every mistake gets one sentence that names the nearest right thing."""

import inspect
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml

import bixt3d.cli.program
import bixt3d.config
import bixt3d.datasets
from bixt3d.datasets import SceneSet
from bixt3d.io.named_configs import config_file
from bixt3d.io.offline import check_online
from bixt3d.models.create import create_model
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.image_classification import ImageClassification
from bixt3d.tasks.image_segmentation import ImageSegmentation
from bixt3d.tasks.part_segmentation import PartSegmentation
from bixt3d.tasks.scene_segmentation import SceneSegmentation
from bixt3d.tasks.task import Task
from bixt3d.types import Features, InputError

CONFIGS = sorted((Path(__file__).parents[1] / "cfgs").glob("*.yaml"))
SHAPES = next(path for path in CONFIGS if path.stem == "shapes_cls")
TASKS = {
    task.program: task
    for task in (
        Classification(),
        PartSegmentation(),
        SceneSegmentation(),
        ImageClassification(),
        ImageSegmentation(),
    )
}


def task_of(path: Path) -> Task:
    """Return the task of the program that the header of a config names."""
    return TASKS[command_of(path)[1]]


def command_of(path: Path) -> re.Match:
    """Return the command in the header of a config; its second group is the config that it follows, if any."""
    command = re.search(
        rf"^#   bixt3d train (\w+) (?:--cfg (\w+) )?--cfg {path.stem}( .*)?$", path.read_text(), re.MULTILINE
    )
    assert command, f"{path} does not say how to run it"
    return command


def config_arguments(path: Path) -> list[str]:
    """Return the arguments that name a config, and the one that it follows."""
    stems = [command_of(path)[2], path.stem]
    return [f"--cfg={path.with_stem(stem)}" for stem in stems if stem]


def parse(*arguments: str):
    return Classification().make_parser("a test").parse_args([f"--cfg={SHAPES}", *arguments])


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("--optim.lrr=1", "unknown setting 'optim.lrr'; did you mean 'optim.lr'?"),
        ("--train.epoch=3", "unknown setting 'train.epoch'; did you mean 'train.epochs'?"),
        ("--lr=1", "unknown setting 'lr'; did you mean 'optim.lr'?"),
        ("--sed=1", "unknown setting 'sed'; did you mean 'seed'?"),
        ("--augment.shuffel=true", "unknown setting 'augment.shuffel'; did you mean 'augment.shuffle'?"),
        ("--model.encoder.dpth=6", "unknown setting 'model.encoder.dpth'; did you mean 'depth'?"),
        ("--data.num_pints=6", "unknown setting 'data.num_pints'; did you mean 'num_points'?"),
        ("--data=Shaps", "unknown class 'Shaps' in setting 'data'; did you mean 'Shapes'?"),
        (
            "--model.tokenizer=PontTokenizer",
            "unknown class 'PontTokenizer' in setting 'model.tokenizer'; did you mean 'PointTokenizer'?",
        ),
        ("--optim.lr=fast", "setting 'optim.lr': Expected a float. Got value: fast"),
        ("--optim.name=adam", "setting 'optim.name': Expected one of 'sgd', 'adamw', 'lamb'. Got value: adam"),
        ("--model.encoder.depth=two", "setting 'model.encoder.depth': Expected a int. Got value: two"),
        ("--train.epochs=1.5", "setting 'train.epochs': Expected a int. Got value: 1.5"),
    ],
)
def test_a_mistake_gets_one_sentence_that_names_the_nearest_right_thing(mistake, sentence):
    with pytest.raises(InputError) as caught:
        parse(mistake)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("encoding", "is_read"), [("utf-8-sig", True), ("utf-16", False), ("latin-1", False)])
def test_a_config_is_text_in_utf8_with_or_without_a_mark(tmp_path, encoding, is_read):
    (tmp_path / "a.yaml").write_bytes("# Gerät\nseed: 1\n".encode(encoding))
    if is_read:
        assert bixt3d.config.read_config(str(tmp_path / "a.yaml")) == {"seed": 1}
    else:
        with pytest.raises(InputError, match=r"the config file .*a.yaml is not text in UTF-8: save it as UTF-8"):
            bixt3d.config.read_config(str(tmp_path / "a.yaml"))


def test_where_nothing_is_near_all_settings_of_the_group_are_named():
    with pytest.raises(InputError) as caught:
        parse("--augment.upp=z")
    assert re.fullmatch(r"unknown setting 'augment.upp'; there are: (augment\.\w+(, )?)+", str(caught.value))
    with pytest.raises(InputError, match="there are: features, num_points, seed, test_per_class") as caught:
        parse("--data.xyzzy=z")
    assert "kwargs" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "mistake", "sentence"),
    [
        ("optim", "lrr", "unknown setting 'optim.lrr'; did you mean 'optim.lr'"),
        ("augment", "shft", "unknown setting 'augment.shft'; did you mean 'augment.shift'"),
        (None, "sead", "unknown setting 'sead'; did you mean 'seed'"),
        ("model.init_args.encoder.init_args", "dpth", "unknown setting 'model.encoder.dpth'; did you mean 'depth'"),
        ("data.init_args", "num_point", "unknown setting 'data.num_point'; did you mean 'num_points'"),
    ],
)
def test_a_mistake_in_a_file_is_found_as_one_on_the_command_line(tmp_path, where, mistake, sentence):
    settings = yaml.safe_load(SHAPES.read_text())
    part = settings
    for key in where.split(".") if where else ():
        part = part[key]
    part[mistake] = 1
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(InputError) as caught:
        Classification().make_parser("a test").parse_args([f"--cfg={tmp_path / 'wrong.yaml'}"])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Namespace" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "- a list", "model: [", "\x00", "seed: 0\n  lr: 1\n"])
def test_a_file_that_is_missing_or_no_yaml_gets_one_sentence(tmp_path, text):
    if text is not None:
        (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        Classification().make_parser("a test").parse_args([f"--cfg={tmp_path / 'x.yaml'}"])
    assert ("no settings in yaml" if text else "there is no config file ") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["cfg", "augment", "optim", "train", "runtime"])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_config_names_no_other_file(tmp_path, part, as_text):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    settings = yaml.safe_load(SHAPES.read_text()) | {part: str(tmp_path / "pipe")}
    (tmp_path / "x.yaml").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="a config has no setting 'cfg'|'\\w+' is a group of settings, not the value"):
        Classification().make_parser("a test").parse_args(
            [f"--cfg={json.dumps(settings) if as_text else tmp_path / 'x.yaml'}"]
        )


def test_a_config_that_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for place in (tmp_path / "pipe.yaml", "/dev/zero", "-"):
        with pytest.raises(InputError, match="is no regular file"):
            Classification().make_parser("a test").parse_args(["--cfg", str(place)])


def test_what_the_command_line_says_wins():
    settings = parse("--optim.lr=0.5", "--model.encoder.depth=7", "--data.num_points=99", "--seed=3")
    assert (settings.optim.lr, settings.seed) == (0.5, 3)
    assert settings.model.init_args.encoder.init_args.depth == 7
    assert settings.data.init_args.num_points == 99
    assert settings.model.init_args.encoder.init_args.dim == parse().model.init_args.encoder.init_args.dim


def test_help_lists_settings_with_type_default_and_meaning(capsys):
    with pytest.raises(SystemExit) as caught:
        Classification().make_parser("a test").parse_args(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    meanings = {
        "--seed": "seed of weights, shuffling and augmentation",
        "--train.label_smoothing": "probability given to the other classes",
        "--optim.ema": "decay of the exponential moving average of the weights",
        "--augment.jitter": "standard deviation of the Gaussian noise",
        "--runtime.threads": "CPU threads",
    }
    for name, meaning in meanings.items():
        assert re.search(re.escape(name) + r"\b[^-]*" + re.escape(meaning), text), name
    assert re.search(r"--optim\.lr LR highest learning rate\. \(type: float, default: 0\.001\)", text)


def test_there_are_configs():
    assert len(CONFIGS) >= 5


def small_cloud_size(settings) -> int:
    """Return few points, but enough for all groups and neighbors of a config."""
    largest = [int(size) for size in re.findall(r"(?:groups|num_neighbors)'?[=:] ?\[?(\d+)", str(settings.model))]
    if "crops" in settings.data.init_args:
        return 512
    if "PointMLPSegmenter" in settings.model.class_path:  # keeps one of 64 points, and each has neighbors
        return settings.data.init_args.num_points
    reduces = "PointMLP" in settings.model.class_path or re.search(r"reduce'?[=:] ?[2-9]", str(settings.model))
    return min(settings.data.init_args.num_points, max([256 if reduces else 32, *largest]) + 8)


def predict_images(task: Task, path: Path) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Return what the model of a config says of two small images, and the shape that it should have."""
    image = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        if task.program == "imgcls":
            return create_model(path.stem, 40).eval()(image), (2, 40)
        return create_model(path.stem, 50).eval()(image), (2, 50, 64, 96)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_parses_builds_its_model_and_predicts(path):
    task = task_of(path)
    settings = task.make_parser("a test").parse_args(config_arguments(path))
    if task.unit == "images":
        logits, shape = predict_images(task, path)
        assert logits.shape == shape
        assert logits.isfinite().all()
        return
    xyz = torch.randn(2, small_cloud_size(settings), 3) * (10 if task.program == "scenes" else 1)  # in voxels
    features = "" if command_of(path)[2] else settings.data.init_args.get("features")
    feats = torch.randn(2, xyz.shape[1], Features.parse(features).width)
    with torch.inference_mode():
        if task.program == "cls":
            logits, shape = create_model(path.stem, 40).eval()(xyz, feats), (2, 40)
        elif task.program == "scenes":
            logits, shape = create_model(path.stem, 13).eval()(xyz, feats), (*xyz.shape[:2], 13)
        else:
            model = create_model(path.stem, 50, num_categories=16).eval()
            logits, shape = model(xyz, feats, torch.tensor([3, 15])), (*xyz.shape[:2], 50)
    assert logits.shape == shape
    assert logits.isfinite().all()


def test_images_are_cut_to_a_size_that_their_model_reads():
    sizes = {}
    for path in CONFIGS:
        task = task_of(path)
        if task.unit == "images":
            parser = task.make_parser("a test")
            run = parser.instantiate(parser.parse_args([f"--cfg={path}"]))
            sizes[path.stem] = (run.data.size, run.model(3).tokenizer.stride)
    assert len(sizes) >= 10
    assert not [name for name, (size, stride) in sizes.items() if size % stride]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_settings_as_saved_are_the_settings(path, tmp_path):
    parser = task_of(path).make_parser("a test")
    settings = parser.parse_args(config_arguments(path))
    settings.pop("cfg")
    (tmp_path / "config.yaml").write_text(parser.dump(settings, skip_unset=False))
    again = parser.parse_args([f"--cfg={tmp_path / 'config.yaml'}"])
    again.pop("cfg")
    assert again == settings
    assert parser.dump(again, skip_unset=False) == parser.dump(settings, skip_unset=False)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_header_of_a_config_says_how_to_run_it_and_what_was_measured(path):
    assert task_of(path)
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Measured") for line in header)


def test_a_model_is_built_from_a_name_a_path_or_a_text():
    sizes = [
        [tuple(weight.shape) for weight in create_model(config, 7).parameters()]
        for config in ("shapes_cls", SHAPES, SHAPES.read_text())
    ]
    assert sizes[0] == sizes[1] == sizes[2]
    assert sizes[0][-1] == (7,)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("shapes_clss", "no model 'shapes_clss'; did you mean 'shapes_cls'"),
        ("seed: 0\nmodle: 1\n", "has no section 'model'"),
        ("model: {class_path: PontMLP}\n", "'PontMLP' is no model of bixt3d; did you mean 'PointMLP'"),
        ("nowhere/x.yaml", "nowhere/x.yaml"),
    ],
)
def test_a_model_that_cannot_be_built_gets_one_sentence(config, sentence):
    with pytest.raises(InputError) as caught:
        create_model(config, 7)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_ends_with_one_sentence_and_code_2(capsys):
    def main():
        raise InputError("no such cloud")

    with pytest.raises(SystemExit) as caught:
        bixt3d.cli.program.run_program(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: no such cloud\n"


def test_every_program_takes_offline_and_then_fetches_nothing(monkeypatch, capsys):
    monkeypatch.setenv("BIXT3D_OFFLINE", "0")
    monkeypatch.setattr("sys.argv", ["train_cls.py", "--offline", "--seed=1"])
    seen = []

    def main():
        seen.extend(sys.argv)
        check_online("the archive", "put it into data/")

    with pytest.raises(SystemExit):
        bixt3d.cli.program.run_program(main)
    assert seen == ["train_cls.py", "--seed=1"]
    assert "the archive would be fetched, but the network is forbidden" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR1", 138), ("SIGINT", 130)])
def test_a_program_that_a_signal_ends_says_so_with_the_code_of_the_signal(capsys, name, code):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught:
        bixt3d.cli.program.run_program(lambda: os.kill(os.getpid(), number))
    assert caught.value.code == code
    assert capsys.readouterr().err == ("stopped\n" if name == "SIGINT" else f"stopped by {name}\n")
    assert signal.getsignal(number) == before


def test_a_program_that_lacks_memory_says_so_and_faults_of_ours_keep_their_traceback(capsys):
    with pytest.raises(SystemExit) as caught:
        bixt3d.cli.program.run_program(lambda: torch.empty(2**50))
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: out of memory: give smaller or fewer inputs, or use a larger machine\n"
    with pytest.raises(RuntimeError, match="shape"):
        bixt3d.cli.program.run_program(lambda: torch.zeros(2).view(3))


def test_a_config_is_found_by_its_name():
    assert config_file("shapes_cls") == SHAPES


TRAP = """import pathlib
from bixt3d.datasets import Shapes
pathlib.Path("sprung").touch()
class Mine(Shapes):
    pass
"""


@pytest.fixture
def trap(tmp_path, monkeypatch) -> Path:
    """Return a config whose data set is a class of another module, which says when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("trap_of_config.py").write_text(TRAP)
    Path("x.yaml").write_text(SHAPES.read_text().replace("class_path: Shapes", "class_path: trap_of_config.Mine"))
    assert "trap_of_config.Mine" in Path("x.yaml").read_text()
    return tmp_path / "x.yaml"


def test_settings_import_a_class_of_another_module_only_with_trust(trap):
    for arguments in ([f"--cfg={trap}"], [f"--cfg={SHAPES}", "--data=trap_of_config.Mine"]):
        with pytest.raises(InputError, match="names trap_of_config.Mine, which is not bixt3d's: --trust imports it"):
            Classification().make_parser("a test").parse_args(arguments)
        assert not Path("sprung").exists()
    parser = Classification().make_parser("a test")
    run = parser.instantiate(parser.parse_args([f"--cfg={trap}", "--trust"]))
    assert type(run.data).__name__ == "Mine" and Path("sprung").exists()


def test_a_config_cannot_ask_for_trust_itself(trap):
    trap.write_text(trap.read_text() + "trust: true\n")
    with pytest.raises(InputError):
        Classification().make_parser("a test").parse_args([f"--cfg={trap}"])
    assert not Path("sprung").exists()


@pytest.mark.parametrize("path", ["unittest.__main__.X", "os.system", "bixt3d.config.run_program", "bixt3d.nowhere.X"])
def test_settings_name_no_module_that_could_be_run(path):
    for setting in ("--data", "--model", "--model.tokenizer"):
        with pytest.raises(InputError) as caught:
            parse(f"{setting}={path}")
        assert "\n" not in str(caught.value)


def test_other_programs_that_use_jsonargparse_are_left_as_they_were():
    from jsonargparse import ArgumentParser

    parse()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--of", type=type)
    assert parser.parse_args(["--of=fractions.Fraction"]).of.__name__ == "Fraction"


def test_no_data_set_gives_features_unless_it_is_asked():
    classes = [
        one
        for one in map(vars(bixt3d.datasets).get, bixt3d.datasets.__all__)
        if inspect.isclass(one) and one is not SceneSet
    ]
    defaults = {one.__name__: inspect.signature(one).parameters.get("features") for one in classes}
    assert {name: one.default for name, one in defaults.items() if one and one.default != ""} == {}
    assert len([one for one in defaults.values() if one]) >= 6


def test_training_and_presets_build_the_same_model_where_a_config_names_no_features():
    settings = yaml.safe_load(next(path for path in CONFIGS if path.stem == "shapenetpart_naive").read_text())
    settings["data"] = {"class_path": "ShapeNetPart", "init_args": {"root": "X"}}
    parser = PartSegmentation().make_parser("a test")
    trained = parser.instantiate(parser.parse_args([f"--cfg={json.dumps(settings)}"])).model(50, 16)
    built = create_model(yaml.safe_dump(settings), 50, num_categories=16)
    assert trained.features == built.features == Features()
