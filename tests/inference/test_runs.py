"""A run describes itself: its weights alone are enough, and malicious metadata in them does no harm."""

import copy
import json
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import bixt3d
from bixt3d.datasets.images.transforms import MEAN, STD
from bixt3d.inference.runs import load_run, read_run
from bixt3d.io.weights import checksum, load_weights, save_weights
from bixt3d.models import BixtClassifier
from bixt3d.models.create import create_model
from bixt3d.tasks import TASKS, find_task
from bixt3d.tasks.testing import own_settings
from bixt3d.types import InputError

ENCODER = {"dim": 16, "depth": 1, "num_heads": 2, "num_latents": 4, "reads": "latents"}
POINTS = {"dim": 16, "features": "normal", "num_features": 8, "temperature": 100.0, "scale": 12.5}


def model_of(name: str, tokenizer: str, settings: dict, reads: str = "latents", **more: Any) -> dict:
    tokens = {"class_path": f"bixt3d.tokenizers.{tokenizer}", "init_args": dict(settings)}
    encoder = {"class_path": "bixt3d.models.BixtEncoder", "init_args": ENCODER | {"reads": reads}}
    return {"class_path": f"bixt3d.models.{name}", "init_args": {"tokenizer": tokens, "encoder": encoder, **more}}


CLOUDS = {"num_points": 32, "up": "z", "normalization": "unit_sphere", "features": "normal"}
IMAGES = {"size": 16, "crop_fraction": 0.5, "mean": list(MEAN), "std": list(STD)}
RUNS = {
    "classification": (
        model_of("BixtClassifier", "PointTokenizer", POINTS, dropout=0.1),
        {"input": CLOUDS, "class_names": ["bed", "car", "mug"]},
        lambda config: create_model(config, 3),
    ),
    "part segmentation": (
        model_of("TokenSegmenter", "PointTokenizer", POINTS, "tokens", use_category=False),
        {"input": CLOUDS, "class_names": ["mug"], "part_names": ["body", "lid"], "class_parts": {"mug": [0, 1]}},
        lambda config: create_model(config, 2, num_categories=1),
    ),
    "image classification": (
        model_of("BixtImageClassifier", "PatchTokenizer", {"dim": 16, "kernel": 4}),
        {"input": IMAGES, "class_names": ["cat", "dog"]},
        lambda config: create_model(config, 2),
    ),
}

MakeRun = Callable[..., Path]


def described(task: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the weights of an untrained run, and their metadata."""
    model, facts, build = RUNS[task]
    config = json.dumps({"model": model}, indent=1)
    return build(config).state_dict(), {"format": "1", "task": task, "config": config, "model": model, **facts}


def write(path: Path, weights: dict[str, torch.Tensor], facts: dict[str, Any]) -> Path:
    plain = ("format", "task", "task_class", "config")
    save_weights(path, weights, {key: value if key in plain else json.dumps(value) for key, value in facts.items()})
    return path


@pytest.fixture
def make_run(tmp_path) -> MakeRun:
    """Return a function that writes the weights of a run with changed metadata."""

    def make(of: str = "classification", **changes: Any) -> Path:
        weights, facts = described(of)
        return write(tmp_path / "model.safetensors", weights, facts | changes)

    return make


def changed(task: str = "classification", **settings: Any) -> dict:
    """Return the description of a model with other settings of its encoder."""
    model = copy.deepcopy(RUNS[task][0])
    model["init_args"]["encoder"]["init_args"] |= settings
    return model


def cloud(num_points: int = 32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_points, 3)).astype(np.float32)


def refused(run: Path, sentence: str | None = None) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        load_run(run)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 700


def test_the_weights_alone_describe_inputs_and_outputs(make_run):
    predictor = load_run(make_run())
    assert (predictor.num_points, predictor.up, predictor.class_names) == (32, "z", ("bed", "car", "mug"))
    assert str(predictor.features) == "normal"
    assert predictor.predict(cloud(), {"normal": cloud()}).name in predictor.class_names


@pytest.mark.parametrize("task", RUNS)
def test_each_task_makes_its_own_predictor(make_run, task):
    assert type(load_run(make_run(task))) is {
        "classification": bixt3d.Predictor,
        "part segmentation": bixt3d.PartPredictor,
        "image classification": bixt3d.ImagePredictor,
    }.get(task)


def test_the_task_of_a_run_is_known_without_reading_its_weights(make_run):
    path = make_run("part segmentation")
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(content[:header] + b"\xff" * (len(content) - header))
    assert read_run(path).task.name == "part segmentation"
    refused(path, "damaged")


def test_every_task_is_found_by_its_name_alone():
    assert len(TASKS) >= 4
    for name in TASKS:
        assert find_task(name).name == name
    assert find_task("poetry") is None and find_task(None) is None


@pytest.mark.parametrize("name", ["encoder.latents", "head.bias", "tokenizer.project.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, name, value):
    weights, facts = described("classification")
    weights[name].view(-1)[0] = value
    refused(write(tmp_path / "m.safetensors", weights, facts), f"'{name}' has values that are not finite numbers")


def test_a_byte_that_changed_is_noticed(make_run):
    path = make_run()
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for place in random.Random(0).sample(range(header, len(content)), 40):
        content[place] ^= 1
        path.write_bytes(content)
        refused(path, "damaged")
        content[place] ^= 1
    path.write_bytes(content)
    load_run(path)


def test_equal_runs_write_equal_files_that_others_may_read(make_run, tmp_path):
    first = make_run()
    weights, metadata = load_weights(first)
    save_weights(tmp_path / "again.safetensors", weights, dict(reversed(metadata.items())))
    assert (tmp_path / "again.safetensors").read_bytes() == first.read_bytes()
    (tmp_path / "text").write_text("as the umask says")
    assert first.stat().st_mode == (tmp_path / "text").stat().st_mode


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"depth": 2}, "contains the weights of another model"),
        ({"dim": 2**20, "token_dim": 16}, "contains the weights of another model|cannot be built"),
        ({"depth": 900}, "more (parameters|modules) than there are weights for"),
        ({"depth": 10**12}, "too large"),
        ({"depth": 0}, "cannot be built: an encoder has at least 1 layer"),
        ({"depth": -1}, "cannot be built"),
        ({"num_heads": 0}, "cannot be built"),
        ({"depth": "one"}, "cannot be built: setting 'model.encoder.depth'"),
        ({"depth": "1000000000"}, "not a word"),
        ({"depht": 1}, "unknown setting 'model.encoder.depht'; did you mean 'depth'"),
        ({"reads": "tea.leaves"}, "not a word"),
        ({"__path__": "x"}, "with the setting '__path__'"),
        ({"a.b": 1}, "with the setting 'a.b'"),
        ({"layer_scale": [[1] * 3000]}, "too many settings"),
        ({"refine": "BixtEncoder"}, "cannot be built"),
    ],
    ids=str,
)
def test_a_model_that_its_weights_do_not_fit_is_not_built(make_run, settings, sentence):
    refused(make_run(model=changed(**settings)), sentence)


def test_a_shared_block_of_a_million_layers_is_not_built(make_run):
    model = copy.deepcopy(RUNS["classification"][0])
    settings = {"dim": 16, "depth": 2**20, "num_heads": 2, "num_latents": 4, "share": "all"}
    model["init_args"]["encoder"] = {"class_path": "IterativeEncoder", "init_args": settings}
    refused(make_run(model=model), "more (modules|parameters) than there are weights for")


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"format": "2"}, "has format 2: a newer bixt3d wrote it"),
        ({"task": "poetry"}, "does not come from a run of bixt3d"),
        ({"class_names": ["bed", "bed", "mug"]}, "contains 'bed' twice"),
        ({"class_names": ["bed", "c\x1b[2Jar", "mug"]}, "characters that can be printed"),
        ({"class_names": "bed"}, "should be a list of names"),
        ({"class_names": ["bed"]}, "another model"),
        ({"input": None}, "does not describe its model and its input"),
        ({"input": {}}, "should have these entries and no others: num_points, up"),
        ({"input": CLOUDS | {"num_points": 10**9}}, "num_points of .* should be a whole number from 1 to"),
        ({"input": CLOUDS | {"num_points": True}}, "should be a whole number"),
        ({"input": CLOUDS | {"up": "sideways"}}, "does not know how to prepare"),
        ({"input": CLOUDS | {"normalization": "unit_box"}}, "does not know how to prepare"),
        ({"input": CLOUDS | {"features": "no\x00rmal"}}, "is not a feature: write its name"),
        ({"input": CLOUDS | {"features": "rgb"}}, "describes other features than its model reads"),
        ({"input": CLOUDS | {"features": "rgb"}}, "describes other features than its model reads"),
        ({"model": []}, "does not describe its model"),
        ({"model": {"init_args": {}}}, "does not describe its model"),
    ],
    ids=str,
)
def test_wrong_metadata_is_refused_with_one_sentence(make_run, facts, sentence):
    refused(make_run(**facts), sentence)


@pytest.mark.parametrize(
    "parts", [{"mug": [0, 2]}, {"mug": [0, 0]}, {"mug": []}, {"cup": [0, 1]}, [0, 1], {"mug": ["0"]}]
)
def test_parts_that_the_model_cannot_mean_are_refused(make_run, parts):
    refused(make_run("part segmentation", class_parts=parts))


@pytest.mark.parametrize(
    "change", [{"size": 0}, {"size": 10**6}, {"crop_fraction": 0}, {"mean": [0, 0, 0]}, {"more": 1}]
)
def test_images_that_the_model_cannot_have_seen_are_refused(make_run, change):
    refused(make_run("image classification", input=IMAGES | change))


class OwnClassifier(BixtClassifier):
    """A custom model class."""


TRAP = "from pathlib import Path\nPath('sprung').touch()\nfrom bixt3d.models import BixtClassifier\n"
TRAP += "class Trap(BixtClassifier):\n    pass\n"


def test_a_custom_class_loads_when_it_is_imported_and_else_needs_trust(make_run, tmp_path, monkeypatch):
    own = RUNS["classification"][0] | {"class_path": f"{__name__}.OwnClassifier"}
    if __name__.isidentifier() or "." in __name__:
        assert type(load_run(make_run(model=own)).model) is OwnClassifier
    (tmp_path / "trap_of_runs.py").write_text(TRAP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = make_run(model=RUNS["classification"][0] | {"class_path": "trap_of_runs.Trap"})
    refused(
        run, "names the class 'trap_of_runs.Trap', which is not bixt3d's: import it before, .*--trust or trust=True"
    )
    assert not Path("sprung").exists()
    assert type(load_run(run, trust=True).model).__name__ == "Trap"
    assert Path("sprung").exists()


def test_models_load_in_four_threads_while_another_one_is_built(make_run, tmp_path):
    runs = [make_run(task).rename(tmp_path / f"{place}.safetensors") for place, task in enumerate(RUNS)]
    model, _, build = RUNS["classification"]
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(load_run, runs[place % len(runs)]) for place in range(24)]
        while not all(one.done() for one in done):
            torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(500)))  # more than the run being loaded has
    assert [type(one.result()) for one in done[: len(runs)]] == [type(load_run(run)) for run in runs]
    with pytest.raises(InputError, match="is no model of bixt3d"):  # the limits are in force again
        build(json.dumps({"model": model | {"class_path": "unittest.TestCase"}}, indent=1))


def test_a_pretrained_run_fetches_nothing_when_it_is_loaded(tmp_path, monkeypatch):
    preset = {"class_path": "BixtPreset", "init_args": {"name": "bixt_ti_l32_p16", "pretrained": True}}
    weights = create_model("bixt_ti_l32_p16", 2).state_dict()
    _, facts = described("image classification")
    run = write(tmp_path / "m.safetensors", weights, facts | {"model": preset, "input": IMAGES | {"size": 32}})
    monkeypatch.setattr("bixt3d.models.released.fetch_released", lambda name: pytest.fail("it was fetched"))
    assert load_run(run).class_names == ("cat", "dog")


def test_changed_metadata_is_noticed(make_run):
    run = make_run()
    content = run.read_bytes()
    assert content.count(b"car") == 1
    run.write_bytes(content.replace(b"car", b"cat"))
    refused(run, "its weights or its metadata are not those that were written")


def test_a_checksum_of_the_weights_alone_is_that_of_older_versions(make_run):
    run = make_run()
    weights, metadata = load_weights(run)
    save_file(weights, run, metadata | {"checksum": checksum(weights, {})})
    assert load_run(run).class_names == ("bed", "car", "mug")
    save_file(weights, run, metadata | {"checksum": "0" * 64})
    refused(run, "is damaged")


def test_metadata_cannot_set_the_number_of_processes():
    config = "runtime: {devices: 40, num_nodes: 9, threads: 99, precision: 32-true}\ntrain: {init: x.pth, epochs: 2}\n"
    config += "model: {class_path: BixtPreset, init_args: {name: bixt_ti_l32_p16, pretrained: true}}\n"
    config += "data: {class_path: ImageFolder, init_args: {root: x, workers: 4000}}\n"
    assert own_settings(config, "it") == {
        "runtime": {"precision": "32-true"},
        "train": {"epochs": 2},
        "model": {"class_path": "BixtPreset", "init_args": {"name": "bixt_ti_l32_p16"}},
        "data": {"class_path": "ImageFolder", "init_args": {"root": "x"}},
    }
    for broken in ("", "[1]", "runtime: 3", "train: [1]"):
        with pytest.raises(InputError, match="it contains no settings"):
            own_settings(broken, "it")


@pytest.mark.parametrize("old", [{"format": None}, {"input": {"num_points": 32, "up": "z", "normals": True}}], ids=str)
def test_a_file_of_an_older_bixt3d_is_refused_in_one_sentence(tmp_path, old):
    weights, facts = described("classification")
    facts = {key: value for key, value in (facts | old).items() if value is not None}
    refused(write(tmp_path / "m.safetensors", weights, facts), "was written by an older bixt3d: train again")


TASK = """
from pathlib import Path
from bixt3d.tasks.classification import Classification

Path("sprung").touch()

class Own(Classification):
    name = "own"
"""


def test_a_custom_task_is_imported_only_with_trust(make_run, tmp_path, monkeypatch):
    (tmp_path / "task_of_runs.py").write_text(TASK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = make_run(task="own", task_class="task_of_runs.Own")
    refused(run, "names the task 'task_of_runs.Own', which is not bixt3d's: import it before, or .*--trust or trust=")
    assert not Path("sprung").exists()
    assert load_run(run, trust=True).class_names == ("bed", "car", "mug") and Path("sprung").exists()
    for wrong, sentence in [("nowhere.Own", "cannot be imported"), ("pathlib.Path", "is no Task"), ("Own", "cannot")]:
        with pytest.raises(InputError, match=sentence):
            load_run(make_run(task="other", task_class=wrong), trust=True)


MUTATED = """
import sys, socket, builtins, random
sys.path[:0] = [{trap!r}]
sys.modules["test_runs"] = None
from importlib.util import spec_from_file_location, module_from_spec
spec = spec_from_file_location("cases_of_runs", {cases!r})
cases = module_from_spec(spec)
sys.modules.pop("test_runs")
spec.loader.exec_module(cases)
cases.load_mutated({folder!r}, {seed}, {count})
"""
STRANGE = [
    None,
    True,
    0,
    -1,
    3,
    10**6,
    10**9,
    10**30,
    1e308,
    float("nan"),
    "",
    "\x00",
    "\x1b[2J",
    "a" * 3000,
    "os.system",
]
STRANGE += [
    "unittest.__main__.X",
    "trap.Trap",
    "bixt3d.trap.Trap",
    "{class_path: trap.Trap}",
    "bixt3d.config.run_program",
]
STRANGE += ['{"class_path": "trap\\\\u002eTrap"}', "1000000000", [], [1, 2], {}, {"class_path": "trap.Trap"}]
STRANGE += [
    {"class_path": "BixtPreset", "init_args": {"name": "bixt_ti_l64_p16", "pretrained": True}},
    {"init_args": {}},
]
STRANGE += [
    ["a"] * 3000,
    {"class_path": "BixtEncoder", "init_args": {"depth": 10**6}},
    {"class_path": None},
    4096,
    "-y",
]


def places(tree: Any, path: tuple = ()) -> list[tuple]:
    """Return where the values of a tree are."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [path, *(place for key in keys for place in places(tree[key], (*path, key)))]


def mutate(facts: dict[str, Any], draw: random.Random) -> dict[str, str]:
    """Return the metadata of a run in which a value is another one, or is missing, or whose text is damaged."""
    facts = copy.deepcopy(facts)
    *path, last = draw.choice(places(facts)[1:])
    node = facts
    for key in path:
        node = node[key]
    if (how := draw.random()) < 0.6:
        node[last] = copy.deepcopy(draw.choice(STRANGE))
    elif how < 0.8:
        del node[last]
    plain = ("format", "task", "config")
    metadata = {k: v if isinstance(v, str) and k in plain else json.dumps(v) for k, v in facts.items()}
    if how >= 0.8:
        key = draw.choice(sorted(metadata))
        text, start = metadata[key], draw.randrange(len(metadata[key]))
        stop = start + draw.randrange(20)
        metadata[key] = (
            text[:start] + draw.choice(["", "[" * 9000, "\x00", '"', text[start:stop] * 9, "}"]) + text[stop:]
        )
    return metadata


def load_mutated(folder: str, seed: int, count: int) -> None:
    """Load mutated runs in a process without network: all are refused with a sentence, or predict."""
    from safetensors.torch import save

    def no_network(*_: Any) -> None:
        raise AssertionError("the network was asked")

    draw, path, outcomes = random.Random(seed), Path(folder) / "mutated.safetensors", {"refused": 0, "loaded": 0}
    runs = {task: described(task) for task in RUNS}
    for weights, facts in runs.values():  # what all runs need is imported
        load_run(write(path, weights, facts))
    import socket

    socket.socket.connect = socket.getaddrinfo = no_network
    before, opened = set(sys.modules), []
    sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
    for _ in range(count):
        task = draw.choice(sorted(runs))
        content = save(runs[task][0], mutate(runs[task][1], draw))
        path.write_bytes(content)
        opened.clear()
        try:
            load_run(path)
            outcomes["loaded"] += 1
        except InputError as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error) and str(error).isprintable(), error
        assert {Path(name).name for name in opened} <= {path.name}, opened
    assert not {name.split(".")[0] for name in set(sys.modules) - before} - {"torch", "bixt3d", "jsonargparse", "yaml"}
    assert outcomes["refused"] > count / 3 and outcomes["loaded"] > count / 20, outcomes
    print("done")


def test_150_mutated_descriptions_import_fetch_and_read_nothing(tmp_path):
    """In its own process, beside a module that reports when it is imported."""
    trap = "raise AssertionError('the trap was imported')"
    for name in ("trap.py", "test_trap.py"):
        (tmp_path / name).write_text(trap)
    code = MUTATED.format(trap=str(tmp_path), cases=__file__, folder=str(tmp_path), seed=0, count=150)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout == "done\n", done.stderr[-3000:]
