"""Exporting a run: the file alone computes what the model does, for any number of clouds, and says what it is."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_deployment
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from written_runs import write_run

import bixt3d
import bixt3d.inference.export
import bixt3d.io.extras
from bixt3d.cli import export
from bixt3d.datasets.shapes.shapes import CLASS_NAMES, CLASS_PARTS, PART_NAMES
from bixt3d.inference.clouds import PartPredictor, Predictor
from bixt3d.inference.graphs import CloudGraph, as_graph, choose_points
from bixt3d.inference.runs import load_run
from bixt3d.models.create import create_model
from bixt3d.nn.feature_scale import fit_feature_scales
from bixt3d.types import InputError

CLASSIFIER = """
data: {class_path: bixt3d.datasets.Shapes, init_args: {num_points: 64, features: normal}}
model:
  class_path: BixtClassifier
  init_args:
    tokenizer:
      class_path: GroupTokenizer
      init_args:
        dim: 16
        points: {class_path: PointTokenizer, init_args: {dim: 16, temperature: 100, scale: 12.566}}
        num_neighbors: 8
        num_groups: 24
        use_xyz: true
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 2, num_heads: 2, num_latents: 4}}
"""
SEGMENTER = """
data: {class_path: bixt3d.datasets.Shapes, init_args: {num_points: 64, features: "rgb,intensity"}}
model:
  class_path: DecoderSegmenter
  init_args:
    tokenizer:
      class_path: GroupTokenizer
      init_args:
        dim: 16
        points: {class_path: PointTokenizer, init_args: {dim: 16, temperature: 100, scale: 12.566}}
        num_neighbors: 8
        num_groups: 24
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4, reads: tokens}}
    decoder: {class_path: PointMLPDecoder, init_args: {dims: [16], num_blocks: [1], context_dim: 8, category_dim: 8}}
"""


def make_run(folder: Path, task: str) -> tuple[Path, nn.Module]:
    """Write the run folder of a model that nobody trained, and return it with the model."""
    torch.manual_seed(0)
    names = {"class_names": CLASS_NAMES}
    if task == "classification":
        config, model = CLASSIFIER, create_model(CLASSIFIER, len(CLASS_NAMES))
    else:
        names |= {"part_names": PART_NAMES, "class_parts": CLASS_PARTS}
        config, model = SEGMENTER, create_model(SEGMENTER, len(PART_NAMES), num_categories=len(CLASS_NAMES))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)  # heads start at zero, and then all logits are alike
    fit_feature_scales(model, draw(task, 100)["feats"] * 3 + 1)
    if task == "classification":  # all classes shall have a chance
        with torch.no_grad():
            model.head.bias -= eager(task, model.eval(), draw(task, 100)).mean(0)
    write_run(folder / "model.safetensors", model, task, config, **names)
    return folder, model.eval()


@pytest.fixture(scope="module", params=["classification", "part segmentation"])
def exported(request, tmp_path_factory) -> tuple[str, Path]:
    """Return a task and the folder of a run with its ONNX model."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install bixt3d[export])")
    folder, _ = make_run(tmp_path_factory.mktemp("run"), request.param)
    assert export.main([str(folder)]) == folder / "model.onnx"
    return request.param, folder


def draw(task: str, num_clouds: int) -> dict[str, Tensor]:
    xyz, normals = torch.randn(2, num_clouds, 64, 3)
    if task == "classification":
        return {"xyz": xyz, "feats": normals}
    feats, category = torch.rand(num_clouds, 64, 4), torch.arange(num_clouds) % len(CLASS_NAMES)
    return {"xyz": xyz, "feats": feats, "category": category}


def eager(task: str, model: nn.Module, clouds: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(*clouds.values())


def people_clouds(task: str, count: int, size: int) -> dict[str, np.ndarray]:
    """Return clouds as people have them, far from the origin in double precision, and the features of the task."""
    random = np.random.default_rng(size)
    xyz = random.normal(size=(count, size, 3)) + (500_000, 5_400_000, 300)
    if task == "classification":
        return {"xyz": xyz, "normal": random.normal(size=xyz.shape).astype(np.float32)}
    return {
        "xyz": xyz,
        "rgb": random.random(size=xyz.shape, dtype=np.float32),
        "intensity": 1 + 3 * random.random(size=(*xyz.shape[:2], 1), dtype=np.float32),
    }


def predicted(predictor: Any, inputs: dict[str, np.ndarray], categories: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield what the predictor says of each cloud, as a file says it."""
    for place, category in enumerate(categories):
        xyz, *feats = (values[place] for values in inputs.values())
        features = dict(zip(list(inputs)[1:], feats, strict=True))
        if not hasattr(predictor, "class_parts"):
            found = predictor.predict(xyz, features).probabilities
            yield np.array([found[name] for name in predictor.class_names])
            continue
        answer = predictor.predict(xyz, features, category=CLASS_NAMES[category], probabilities=True)
        probabilities = np.zeros((len(xyz), len(PART_NAMES)))
        probabilities[:, answer.own_parts] = answer.probabilities
        yield probabilities


def open_session(folder: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def run(session: Any, inputs: dict[str, np.ndarray], categories: Sequence[int]) -> np.ndarray:
    wanted = [one.name for one in session.get_inputs()]
    inputs = inputs | ({"category": np.array(categories)} if "category" in wanted else {})
    (found,) = session.run(["probabilities"], inputs)
    return found


def check_facts(facts: dict[str, str], task: str) -> None:
    assert (facts["task"], facts["num_points"], facts["up"]) == (task, "64", "y")
    assert facts["version"] == bixt3d.__version__
    assert facts["features"] == ("normal" if task == "classification" else "rgb,intensity")
    assert tuple(json.loads(facts["class_names"])) == CLASS_NAMES
    if task == "part segmentation":
        assert tuple(json.loads(facts["part_names"])) == PART_NAMES
        assert json.loads(facts["class_parts"]) == {name: list(parts) for name, parts in CLASS_PARTS.items()}


@pytest.mark.parametrize("size", [2, 5, 63, 64, 65, 100, 1000])
def test_an_onnx_model_answers_as_the_predictor_does_for_any_number_of_points(exported, size):
    task, folder = exported
    inputs, categories = people_clouds(task, 3, size), [0, 4, 2]
    expected = list(predicted(load_run(folder), inputs, categories))
    session = open_session(folder)
    assert np.abs(run(session, inputs, categories) - expected).max() < 1e-5
    alone = {name: values[1:2] for name, values in inputs.items()}
    assert np.abs(run(session, alone, categories[1:2])[0] - expected[1]).max() < 1e-5


def test_an_onnx_model_says_what_it_is(exported):
    task, folder = exported
    session = open_session(folder)
    check_facts(session.get_modelmeta().custom_metadata_map, task)
    names = ["xyz", "normal"] if task == "classification" else ["xyz", "rgb", "intensity", "category"]
    assert [one.name for one in session.get_inputs()] == names
    assert [one.name for one in session.get_outputs()] == ["probabilities"]


def test_what_the_predictor_refuses_is_nan_and_no_other_cloud_of_the_batch(exported):
    task, folder = exported
    session, inputs = open_session(folder), people_clouds(task, 5, 70)
    good = run(session, inputs, [0] * 5)
    inputs["xyz"][0, 3, 1] = np.nan
    inputs["xyz"][1] = 7.0
    last = list(inputs)[-1]
    inputs[last][2, 5] = np.inf
    inputs[list(inputs)[1]][3] *= 200 if task == "part segmentation" else 0  # bytes for colors, no directions
    found = run(session, inputs, [0] * 5)
    assert np.isnan(found[:4]).all() and np.array_equal(found[4], good[4])
    one_point = {name: values[:, :1] for name, values in people_clouds(task, 2, 3).items()}
    assert np.isnan(run(session, one_point, [0, 1])).all()
    if task == "part segmentation":
        assert np.isnan(run(session, people_clouds(task, 2, 70), [len(CLASS_NAMES), -1])).all()


def test_the_example_of_deployment_needs_neither_torch_nor_bixt3d(exported, tmp_path):
    task, folder = exported
    inputs = people_clouds(task, 1, 50)
    table = np.concatenate([values[0] for values in inputs.values()], 1)
    np.save(tmp_path / "scan.npy", table)
    np.savetxt(tmp_path / "scan.txt", table)
    asked = [] if task == "classification" else ["--category", CLASS_NAMES[1]]
    code = "import sys; sys.modules |= {'torch': None, 'bixt3d': None}; import onnx_deployment; onnx_deployment.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "model.onnx"), "scan.npy", "scan.txt", *asked],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(onnx_deployment.__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = predicted(load_run(folder), inputs, [1])
    first, second = done.stdout.splitlines()
    assert first.removeprefix("scan.npy") == second.removeprefix("scan.txt")
    if task == "classification":
        assert first.startswith(f"scan.npy: {CLASS_NAMES[found.argmax()]} {found.max():.1%}, ")
    else:
        parts = np.bincount(found.argmax(1), minlength=len(PART_NAMES))
        assert first.startswith(f"scan.npy: {PART_NAMES[parts.argmax()]} {parts.max() / 50:.1%}")


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11, of its own file
@pytest.mark.parametrize("task", ["classification", "part segmentation"])
def test_a_program_of_torch_export_answers_as_the_predictor_does(tmp_path, task, capsys):
    folder, _ = make_run(tmp_path, task)
    out = export.main([str(folder / "model.safetensors"), "--format=torch", f"--out={tmp_path / 'new' / 'it.pt2'}"])
    assert out == tmp_path / "new" / "it.pt2" and [path.name for path in out.parent.iterdir()] == ["it.pt2"]
    total = 20 if task == "classification" else 67 + 3 * 21 + 16 * 64
    assert f"of {total} labels are the model's, and the probabilities differ by" in capsys.readouterr().out
    files = {"metadata.json": ""}
    program = torch.export.load(out, extra_files=files).module()
    check_facts(json.loads(files["metadata.json"]), task)
    for size in (5, 300):
        inputs, categories = people_clouds(task, 2, size), [3, 1]
        xyz, *features = map(torch.from_numpy, inputs.values())
        given = {"xyz": xyz, "features": dict(zip(list(inputs)[1:], features, strict=True))}
        given |= {"category": torch.tensor(categories)} if task == "part segmentation" else {}
        expected = list(predicted(load_run(folder), inputs, categories))
        with torch.no_grad():
            assert np.abs(program(**given).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("num_points", [1, 2, 7, 64])
def test_an_exported_model_sees_the_points_that_the_predictor_sees(num_points):
    drawn = CloudGraph(Predictor(create_model(CLASSIFIER, 2), CLASS_NAMES[:2], num_points)).drawn
    for size in (1, 2, 6, 7, 8, 63, 64, 65, 1000, 50_000):
        generator = torch.Generator().manual_seed(0)
        expected = torch.randperm(size, generator=generator)[:num_points]
        missing = num_points - len(expected)
        expected = torch.cat([expected, torch.randint(size, (missing,), generator=generator)])
        assert torch.equal(choose_points(size, drawn), expected)


def test_parts_without_a_category_are_those_of_the_likeliest():
    torch.manual_seed(0)
    config = SEGMENTER.replace("category_dim: 8", "category_dim: 0").replace(', features: "rgb,intensity"', "")
    model = create_model(config, len(PART_NAMES), num_categories=len(CLASS_NAMES))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    predictor = PartPredictor(model, PART_NAMES, CLASS_PARTS, 64)
    for cloud in torch.randn(3, 40, 3, dtype=torch.float64):
        answer = predictor.predict(cloud, probabilities=True)
        with torch.no_grad():
            (found,) = as_graph(predictor)(cloud[None])
        assert torch.allclose(found[:, list(answer.own_parts)], answer.probabilities, atol=1e-6)
        assert torch.allclose(found.sum(1), torch.ones(40))


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    folder, _ = make_run(tmp_path, "classification")

    def to_nonsense(graph, inputs, sizes, facts):
        return b"nonsense", lambda inputs: graph(**inputs).flip(0)

    monkeypatch.setattr(bixt3d.inference.export, "to_torch", to_nonsense)
    with pytest.raises(InputError, match=r"would not compute what the model does.*: only \d+ of 20 labels"):
        export.main([str(folder), "--format=torch"])
    assert [path.name for path in folder.iterdir()] == ["model.safetensors"]


def test_the_file_to_write_may_be_named_as_text(tmp_path, monkeypatch):
    folder, _ = make_run(tmp_path / "run", "classification")
    monkeypatch.setattr(bixt3d.inference.export, "to_torch", lambda graph, *_: (b"it", lambda inputs: graph(**inputs)))
    written, _ = bixt3d.inference.export.export_run(folder, "torch", str(tmp_path / "a.pt2"))
    assert written == tmp_path / "a.pt2" and written.read_bytes() == b"it"


def test_without_the_packages_one_learns_how_to_install_them(tmp_path, monkeypatch):
    folder, _ = make_run(tmp_path, "classification")
    monkeypatch.setattr(bixt3d.io.extras, "_is_installed", lambda package: package != "onnxscript")
    with pytest.raises(
        InputError, match=r"an ONNX model needs the package onnxscript, .*: pip install 'bixt3d\[export\]'"
    ):
        export.main([str(folder)])


IMAGES = """
data: {init_args: {size: 16}}
model:
  class_path: CLASS
  init_args:
    tokenizer: {class_path: PatchTokenizer, init_args: {dim: 16, kernel: 4}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4, reads: READS}}
"""


def make_image_run(folder: Path, task: str) -> Path:
    torch.manual_seed(0)
    names = ["cat", "dog", "hen"]
    if task == "image classification":
        config = IMAGES.replace("CLASS", "BixtImageClassifier").replace("READS", "latents")
        model = create_model(config, 3)
    else:
        config = IMAGES.replace("CLASS", "LinearSegmenter").replace("READS", "tokens")
        model = create_model(config, 3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    write_run(folder / "model.safetensors", model, task, config, class_names=names)
    return folder


def test_an_exported_classifier_of_images_takes_pixels_and_answers_as_the_predictor_does(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install bixt3d[export])")
    folder = make_image_run(tmp_path, "image classification")
    export.main([str(folder)])
    session, predictor = open_session(folder), load_run(folder)
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["task"], facts["size"], facts["crop_fraction"]) == ("image classification", "16", "0.875")
    assert json.loads(facts["class_names"]) == ["cat", "dog", "hen"]
    images = [Image.fromarray(np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8))] * 3
    pixels = np.stack([predictor.view(image).permute(1, 2, 0).numpy() for image in images])
    (found,) = session.run(["probabilities"], {"image": pixels})
    for image, own in zip(images, found, strict=True):
        expected = predictor.predict(image).probabilities
        assert np.allclose(own, [expected[name] for name in ("cat", "dog", "hen")], atol=1e-5)


def test_an_exported_segmenter_of_images_takes_any_size_that_its_stride_divides(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install bixt3d[export])")
    folder = make_image_run(tmp_path, "image segmentation")
    export.main([str(folder)])
    session, predictor = open_session(folder), load_run(folder)
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["stride"], facts["window"]) == ("4", "")
    for shape in ((8, 8), (20, 12)):
        pixels = np.random.default_rng(0).integers(256, size=(2, *shape, 3), dtype=np.uint8)
        (found,) = session.run(["probabilities"], {"image": pixels})
        for image, own in zip(pixels, found, strict=True):
            assert np.array_equal(own.argmax(0), predictor.predict(image).labels)


def test_weights_that_nobody_can_place_are_refused(tmp_path):
    folder, model = make_run(tmp_path, "classification")
    other = CLASSIFIER.replace("depth: 2", "depth: 3")
    write_run(folder / "model.safetensors", model, "classification", other, class_names=CLASS_NAMES)
    with pytest.raises(InputError, match="contains the weights of another model"):
        export.main([str(folder), "--format=torch"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "there is no run folder or weights file nowhere"),
        (["."], "there is no run folder or weights file model.safetensors"),
        (["junk.safetensors"], "junk.safetensors is not a safetensors file"),
        (["run", "--format=tflite"], "argument --format: invalid choice: 'tflite'.*torch.*onnx"),
        (["run", "--fromat=onnx"], "unknown option '--fromat=onnx'; did you mean '--format'"),
        ([], "the following arguments are required: RUN"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nonsense_is_refused_with_one_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    Path("junk.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match=sentence) as caught:
        export.main(arguments)
    assert "\n" not in str(caught.value)


def test_the_numbers_that_a_file_is_checked_with_are_like_those_of_the_training_set(tmp_path):
    predictor = load_run(make_run(tmp_path, "part segmentation")[0])
    scale = predictor.model.tokenizer.points.feature_scale
    scale.mean[3], scale.deviation[3] = 5000.0, 100.0
    features = bixt3d.inference.export.example_inputs(predictor, 16)["features"]
    assert features["rgb"].min() >= 0 and features["rgb"].max() <= 1
    assert 4900 <= features["intensity"].min() < 4950 and 5050 < features["intensity"].max() <= 5100
