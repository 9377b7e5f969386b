"""What is tested on a device that is not the CPU; see test_emulated_device.py, which runs it with the plugin."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from emulated_device import EMULATED, EmulatedTensor, WaitError, no_waits
from test_config import CONFIGS, config_arguments, small_cloud_size, task_of
from torch import nn

from bixt3d.datasets.images.folder import LabeledReader
from bixt3d.datasets.images.reading import ImageSet
from bixt3d.datasets.images.transforms import square_view
from bixt3d.datasets.scenes.crops import SceneSet
from bixt3d.datasets.scenes.scene import Scene
from bixt3d.engine.loop import EpochSums
from bixt3d.engine.optim import make_average, make_optimizer
from bixt3d.inference.clouds import PartPredictor
from bixt3d.models.encoder import BixtEncoder
from bixt3d.models.segmenter import TokenSegmenter
from bixt3d.tasks.settings import make_run
from bixt3d.tasks.task import Task
from bixt3d.tokenizers import PointTokenizer
from bixt3d.types import CloudSet, Features

SETTINGS = {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in CONFIGS}
DIFFERENT = {str([settings.get(part) for part in ("model", "augment")]): path for path, settings in SETTINGS.items()}
"""One of the configs that have the same model and augmentation: they differ in data sets and epochs."""
SCENES = [path for path in DIFFERENT.values() if task_of(path).program == "scenes"]
OTHERS = [path for path in DIFFERENT.values() if path not in SCENES]
BATCH = 3  # of which mixing takes one
CLASSES, PARTS = tuple("abcdef"), tuple("pqr")


def test_the_device_refuses_what_a_gpu_refuses():
    here, there = torch.ones(3), torch.ones(3, device=EMULATED)
    assert isinstance(there, EmulatedTensor)
    with pytest.raises(RuntimeError, match="two devices"):
        here + there
    with pytest.raises(RuntimeError, match="another device"):
        torch.rand(3, device=EMULATED, generator=torch.Generator())
    with pytest.raises(RuntimeError):
        np.asarray(there)
    assert (there + 1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "wait",
    [
        lambda there: there.sum().item(),
        lambda there: there.tolist(),
        lambda there: there[there > 0],
        lambda there: bool(there.isnan().any()),
        lambda there: there.cpu(),
        lambda there: torch.ones(3).to(EMULATED),
        lambda there: torch.tensor([1.0, 2, 3], device=EMULATED),
        lambda there: there[torch.tensor([0])],
    ],
)
def test_waiting_is_refused_where_it_is_watched(wait):
    there = torch.ones(3, device=EMULATED)
    wait(there)
    with no_waits(), pytest.raises(WaitError):
        wait(there)


def some_examples(task: Task, settings: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return a small set as a config would load it, on the device, and a batch of it."""
    if task.unit == "images":
        image = torch.randn(BATCH, 3, 32, 32, device=EMULATED)
        label = torch.randint(6, (BATCH,), device=EMULATED)
        labels = torch.randint(6, (BATCH, 32, 32), device=EMULATED)
        batch = {"image": image} | ({"label": label} if task.program == "imgcls" else {"labels": labels})
        view = square_view(32, crop_fraction=1.0)
        reader = LabeledReader([], label, view, view, cache=False)
        return ImageSet(reader, label, CLASSES, workers=0, index=torch.arange(BATCH)), batch
    num_points = small_cloud_size(settings)
    features = Features.parse(settings.data.init_args.get("features"))
    names = {"class_names": CLASSES, "part_names": PARTS, "class_parts": {name: (0, 2) for name in CLASSES}}
    clouds = CloudSet(
        xyz=torch.randn(BATCH, num_points, 3),
        feats=torch.randn(BATCH, num_points, features.width),
        label=torch.randint(6, (BATCH,)),
        parts=torch.randint(3, (BATCH, num_points)),
        **names,
        features=features,
    ).to(EMULATED)
    return clouds, next(clouds.batches([torch.arange(BATCH, device=EMULATED)]))


def fewer_layers(path: Path) -> list[str]:
    """Return the argument for a first, a middle and a last layer, where all in the middle are alike."""
    encoder = SETTINGS[path]["model"].get("init_args", {}).get("encoder", {}).get("init_args", {})
    differ = isinstance(encoder.get("token_dim"), list) or "keep_layers" in encoder or "reduce" in str(encoder)
    return ["--model.encoder.depth=3"] if encoder and not differ else []


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_in_a_training_step_the_host_does_not_wait_for_the_device(path):
    task = task_of(path)
    parser = task.make_parser("a test")
    settings = parser.parse_args([*config_arguments(path), *fewer_layers(path)])
    run = make_run(parser, settings)
    examples, batch = some_examples(task, settings)
    if task.unit == "clouds":
        run.data.num_points = batch["xyz"].shape[1]
    module = task.build(run, examples).to(EMULATED).train()
    optimizer, average = make_optimizer(run.optim, module.named_parameters()), make_average(run.optim, module)
    step, augment = task.make_step(run, examples), task.make_augment(run, examples, 1)
    sums = EpochSums(EMULATED)
    before = [weight.detach().clone() for weight in module.parameters()]
    with no_waits():
        loss, correct = step(module, augment(batch, 0))
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
        for _ in range(2 if average else 0):  # the first time only copies
            average.update_parameters(module)
        sums.add(loss, correct, BATCH)
    assert sums.read()["loss"] > 0
    assert any(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


def some_scenes(features: Features) -> SceneSet:
    """Return a set of one small scene whose crops are on the device."""
    xyz, feats, label = 40 * torch.rand(300, 3), torch.rand(300, features.width), torch.randint(6, (300,))
    scene = Scene(xyz, feats, label, torch.zeros(300), torch.arange(300), label)
    return SceneSet((scene,), CLASSES, features, num_points=128, crops=BATCH).to(EMULATED)


@pytest.mark.parametrize("path", SCENES, ids=lambda path: path.stem)
def test_scenes_are_trained_and_scored_on_the_device(path):  # the host waits: voxels are counted
    task = task_of(path)
    parser = task.make_parser("a test")
    run = make_run(parser, parser.parse_args([*config_arguments(path), *fewer_layers(path), "--train.window=256"]))
    train = some_scenes(run.data.features)
    module = task.build(run, train).to(EMULATED).train()
    (batch,) = train.batches([torch.arange(BATCH, device=EMULATED)], 0)
    loss, _ = task.make_step(run, train)(module, task.make_augment(run, train, 1)(batch, 0))
    loss.backward()
    assert loss > 0
    fabric = SimpleNamespace(global_rank=0, world_size=1, autocast=nullcontext, device=EMULATED)
    assert 0 <= task.evaluate(module, train, run, fabric).scores.accuracy <= 1


def test_crops_are_made_without_waiting_for_the_device():
    scenes = some_scenes(Features()).to("cpu")  # copying a batch to the device is a wait
    ((index,),) = scenes.with_fewer_crops([[torch.arange(BATCH, device=EMULATED)]], seed=0)
    with no_waits():
        (batch,) = scenes.batches([index], 0)
    assert len(batch["xyz"]) == BATCH


def test_clouds_may_lie_on_the_device_or_not_wherever_the_model_lies():
    torch.manual_seed(0)
    model = TokenSegmenter(3, 6, PointTokenizer(8), BixtEncoder(8, 1, 2, 4, reads="tokens"))
    xyz, found = torch.randn(50, 3), []
    for place in ("cpu", EMULATED):
        predictor = PartPredictor(model.to(place), PARTS, {name: (0, 2) for name in CLASSES}, num_points=20)
        found += [predictor.predict(xyz.to(device), category="a").parts for device in ("cpu", EMULATED)]
    assert {parts.device.type for parts in found} == {"cpu"}
    assert all(parts.equal(found[0]) for parts in found)
