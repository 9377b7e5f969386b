"""Exporting a run: the file alone computes what the model does, for any number of clouds, and says what it is."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from written_runs import write_run

import bixt3d.inference.export
from bixt3d.cli import export
from bixt3d.datasets.shapes.shapes import CLASS_NAMES, CLASS_PARTS, PART_NAMES
from bixt3d.inference.runs import load_run
from bixt3d.models.image_presets import build_image_classifier
from bixt3d.models.presets import build_model, build_segmenter
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
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 2, num_heads: 2, num_latents: 4, reads: tokens}}
    decoder: {class_path: PointMLPDecoder, init_args: {dims: [16], num_blocks: [1], context_dim: 8, category_dim: 8}}
"""


def make_run(folder: Path, task: str) -> tuple[Path, nn.Module]:
    """Write the run folder of a model that nobody trained, and return it with the model."""
    torch.manual_seed(0)
    names = {"class_names": CLASS_NAMES}
    if task == "classification":
        config, model = CLASSIFIER, build_model(CLASSIFIER, len(CLASS_NAMES))
    else:
        names |= {"part_names": PART_NAMES, "class_parts": CLASS_PARTS}
        config, model = SEGMENTER, build_segmenter(SEGMENTER, len(PART_NAMES), len(CLASS_NAMES))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)  # heads start at zero, and then all logits are alike
    fit_feature_scales(model, draw(task, 100)["feats"] * 3 + 1)
    if task == "classification":  # all classes shall have a chance
        with torch.no_grad():
            model.head.bias -= eager(task, model.eval(), draw(task, 100)).mean(0)
    write_run(folder / "model.safetensors", model, task, config, **names)
    return folder, model.eval()


@pytest.fixture(scope="module", params=["classification", "part segmentation"])
def exported(request, tmp_path_factory) -> tuple[str, Path, nn.Module]:
    folder, model = make_run(tmp_path_factory.mktemp("run"), request.param)
    return request.param, folder, model


def draw(task: str, num_clouds: int) -> dict[str, Tensor]:
    xyz, normals = torch.randn(2, num_clouds, 64, 3)
    if task == "classification":
        return {"xyz": xyz, "feats": normals}
    feats, category = torch.rand(num_clouds, 64, 4), torch.arange(num_clouds) % len(CLASS_NAMES)
    return {"xyz": xyz, "feats": feats, "category": category}


def eager(task: str, model: nn.Module, clouds: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(*clouds.values())


def check_facts(facts: dict[str, str], task: str) -> None:
    assert (facts["task"], facts["num_points"], facts["up"]) == (task, "64", "y")
    assert facts["features"] == ("normal" if task == "classification" else "rgb,intensity")
    assert tuple(json.loads(facts["class_names"])) == CLASS_NAMES
    if task == "part segmentation":
        assert tuple(json.loads(facts["part_names"])) == PART_NAMES
        assert json.loads(facts["class_parts"]) == {name: list(parts) for name, parts in CLASS_PARTS.items()}


def test_an_onnx_model_gives_the_labels_of_the_model_for_any_number_of_clouds(exported, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install bixt3d[export])")
    task, folder, model = exported
    assert export.main([str(folder)]) == folder / "model.onnx"
    size = 16 if task == "classification" else 16 * 64
    assert f"compared with the model: {size} of {size} labels are the model's" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for num_clouds in (1, 20):
        clouds = draw(task, num_clouds)
        (logits,) = session.run(["logits"], {name: values.numpy() for name, values in clouds.items()})
        expected = eager(task, model, clouds)
        assert len(expected.argmax(-1).unique()) > (num_clouds > 1)
        assert torch.equal(torch.from_numpy(logits).argmax(-1), expected.argmax(-1))
        assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-4)
    check_facts(session.get_modelmeta().custom_metadata_map, task)


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11, of its own file
def test_a_program_of_torch_export_gives_the_logits_of_the_model_for_any_number_of_clouds(tmp_path):
    """Of a classifier: of what segments parts, the ONNX model is made from such a program too."""
    task = "classification"
    folder, model = make_run(tmp_path, task)
    out = export.main([str(folder / "model.safetensors"), "--format=torch", f"--out={tmp_path / 'new' / 'it.pt2'}"])
    assert out == tmp_path / "new" / "it.pt2" and [path.name for path in out.parent.iterdir()] == ["it.pt2"]
    files = {"metadata.json": ""}
    program = torch.export.load(out, extra_files=files).module()
    for num_clouds in (1, 20):
        clouds = draw(task, num_clouds)
        with torch.no_grad():
            assert torch.allclose(program(**clouds), eager(task, model, clouds), atol=1e-5)
    check_facts(json.loads(files["metadata.json"]), task)


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    folder, _ = make_run(tmp_path, "classification")

    def to_nonsense(form, clouds, facts):
        return b"nonsense", lambda clouds: form(**clouds).flip(0) if len(clouds["xyz"]) > 1 else form(**clouds)

    monkeypatch.setattr(bixt3d.inference.export, "to_torch", to_nonsense)
    with pytest.raises(InputError, match=r"would not compute what the model does.*: only \d+ of 16 labels"):
        export.main([str(folder), "--format=torch"])
    assert [path.name for path in folder.iterdir()] == ["model.safetensors"]


def test_without_the_packages_one_learns_how_to_install_them(tmp_path, monkeypatch):
    folder, _ = make_run(tmp_path, "classification")
    monkeypatch.setattr(bixt3d.inference.export, "find_spec", lambda package: None)
    with pytest.raises(InputError, match=r'needs onnx, onnxscript and onnxruntime: pip install "bixt3d\[export\]"'):
        export.main([str(folder)])


def test_a_run_on_images_is_refused(tmp_path):
    tokens = "tokenizer: {class_path: PatchTokenizer, init_args: {dim: 16, kernel: 4}}"
    encoder = "encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4}}"
    config = f"model:\n  class_path: BixtImageClassifier\n  init_args:\n    {tokens}\n    {encoder}\ndata: {{}}\n"
    model, names = build_image_classifier(config, 2), ["cat", "dog"]
    write_run(tmp_path / "model.safetensors", model, "image classification", config, class_names=names)
    with pytest.raises(InputError, match="is a run on images, which cannot be exported yet: only runs on clouds can"):
        export.main([str(tmp_path)])


def test_weights_that_nobody_can_place_are_refused(tmp_path):
    folder, model = make_run(tmp_path, "classification")
    other = CLASSIFIER.replace("depth: 2", "depth: 3")
    write_run(folder / "model.safetensors", model, "classification", other, class_names=CLASS_NAMES)
    with pytest.raises(InputError, match="holds the weights of another model"):
        export.main([str(folder), "--format=torch"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "there are no weights nowhere"),
        (["."], "there are no weights model.safetensors"),
        (["junk.safetensors"], "junk.safetensors is not a safetensors file"),
        (["run", "--format=tflite"], "'format': .*torch.*onnx.*tflite"),
        (["run", "--fromat=onnx"], "unknown setting 'fromat'; did you mean 'format'"),
        ([], "the following arguments are required: run"),
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
    feats = bixt3d.inference.export.example_clouds(predictor)["feats"]
    assert feats[..., :3].min() >= 0 and feats[..., :3].max() <= 1
    assert 4900 <= feats[..., 3].min() < 4950 and 5050 < feats[..., 3].max() <= 5100
