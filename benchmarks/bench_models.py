"""What whole models cost: clouds and images per second in use and in training, and what importing us costs."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial

import torch
from bench_case import Case, How, Row, Run, Target, summarize
from bench_measure import assert_near, measure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bixt3d.cli.costs import count_cost
from bixt3d.engine.optim import Optim, make_optimizer
from bixt3d.engine.runtime import keep_freed_memory
from bixt3d.io.named_configs import config_file
from bixt3d.models.create import create_model
from bixt3d.nn.attention import BiAttention
from bixt3d.types import InputError

CLOUD_MODELS = {
    "PointMLP": "modelnet40_pointmlp",
    "PointMLP-elite": "modelnet40_pointmlp_elite",
    "sequential": "modelnet40_naive",
    "iterative": "modelnet40_naive",
    "naive": "modelnet40_naive",
    "grouping": "modelnet40_grouping",
    "hierarchy": "modelnet40_hierarchy",
}
"""Configs of models by name; the first is the baseline."""

OTHER_ENCODERS = {"sequential": "SequentialEncoder", "iterative": "IterativeEncoder"}
"""What takes the place of BixtEncoder, with the same width and depth."""

SMALL = {
    "depth: 12": "depth: 2",
    "depth: 4": "depth: 2",
    "dim: 192": "dim: 24",
    "dim: 96": "dim: 24",
    "PointMLP}": "PointMLP, init_args: {dim: 8}}",
}
"""What makes the text of a config a small model."""


def make_cloud_model(name: str, how: How) -> nn.Module:
    """Return a model of ModelNet40's clouds."""
    text = config_file(CLOUD_MODELS[name]).read_text()
    if name in OTHER_ENCODERS:
        text = text.replace("BixtEncoder", OTHER_ENCODERS[name])
    if name == "iterative":
        text = text.replace("depth: 12", "depth: 12, num_self: 1, share: none")
    for large, small in SMALL.items() if how.small else ():
        text = text.replace(large, small)
    return create_model(text, 40).to(how.device)


def make_image_models(how: How) -> dict[str, nn.Module]:
    """Return timm's vision transformer and our preset of the same width, depth and patches."""
    import timm

    models = {
        "ViT-Ti/16 (timm)": timm.create_model("vit_tiny_patch16_224", num_classes=1000),
        "bixt_ti_l64_p16": create_model("bixt_ti_l64_p16", 1000),
    }
    return {name: model.to(how.device) for name, model in models.items()}


def bench_models(how: How) -> Iterator[list[Row]]:
    """Measure models of clouds and images, and imports."""
    yield import_rows(how)
    keep_freed_memory()  # as our programs do
    for training, batch in ((False, 128 if how.on_gpu else 4), (True, 32 if how.on_gpu else 4)):
        clouds = cloud_batch(2, 512, how) if how.small else cloud_batch(batch, 1024, how)
        models = {name: make_cloud_model(name, how) for name in CLOUD_MODELS}
        yield measure(model_case(models, clouds, training, how), how)
        images = torch.randn(1 if how.small else batch, 3, 224, 224, device=how.device)
        yield measure(model_case(make_image_models(how), (images,), training, how), how)


def cloud_batch(num_clouds: int, num_points: int, how: How) -> tuple[Tensor, Tensor]:
    """Return points on the unit sphere, and features of width 0."""
    xyz = nn.functional.normalize(torch.randn(num_clouds, num_points, 3, device=how.device), dim=2)
    return xyz, xyz[..., :0]


IMPORTS = """
from time import perf_counter
began = perf_counter()
import torch
torch_there = perf_counter()
import bixt3d
package_there = perf_counter()
import bixt3d.models, bixt3d.ops
print(torch_there - began, package_there - torch_there, perf_counter() - torch_there)
"""
"""What a new process does to tell how long imports take."""


def import_rows(how: How) -> list[Row]:
    """Return how long it takes to import torch, and from then on to import us, in new processes."""
    names = ["import torch", "then import bixt3d", "then import bixt3d.models, bixt3d.ops"]
    taken = [import_seconds() for _ in range(how.repeats + (not how.small))][-how.repeats :]  # the first fills caches
    times = {name: [1e3 * seconds for seconds in each] for name, *each in zip(names, *taken, strict=True)}
    targets = tuple(Target(name, "median_ms", 200) for name in names[1:])
    case = Case("a new process", names[0], {}, clock="wall", targets=targets)
    return summarize(case, times, {name: {} for name in names}, how)


def import_seconds() -> list[float]:
    """Return the seconds of each import of one process."""
    said = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True).stdout
    return [float(part) for part in said.split()]


def model_case(models: dict[str, nn.Module], inputs: tuple[Tensor, ...], training: bool, how: How) -> Case:
    """Return the inference, or a training step, of several models on one batch."""
    unit, size = ("clouds", f"{inputs[0].shape[1]} points") if len(inputs) == 2 else ("images", "224 pixels")
    examples = tuple(part[:1] for part in inputs)
    variants: dict[str, Run] = {}
    expected: dict[str, Tensor] = {}
    for name, model in models.items():
        if training:
            variants[name] = training_step(model, inputs, how)
        else:
            expected[name] = by_reference(model, tuple(part[:2] for part in inputs))
            variants[name] = partial(answer, model.eval(), inputs, how)

    def check(name: str, result: Tensor) -> None:
        if training:
            assert result.isfinite(), "the loss is no number"
        else:
            assert_near([result[:2].cpu()], [expected[name]], 0.1 if how.on_gpu else 1e-3)

    return Case(
        f"{'training step' if training else 'inference'}, {len(inputs[0])} {unit} of {size}",
        next(iter(variants)),
        variants,
        check,
        len(inputs[0]),
        unit,
        flops={
            name: len(inputs[0]) * (3 if training else 1) * _flops(models[name], examples, how) for name in variants
        },
        clock="wall",
    )


def answer(model: nn.Module, inputs: tuple[Tensor, ...], how: How) -> Tensor:
    """Return the logits of a batch."""
    with torch.no_grad(), how.precision():
        return model(*inputs)


def by_reference(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return logits by the reference of bi-directional attention, in float32 on the CPU.

    The last layer of a model, zero before training, gets random weights: all logits would be zero.
    """
    if isinstance(head := getattr(model, "head", None), nn.Linear):
        nn.init.normal_(head.weight, std=0.05)
    copy = deepcopy(model).cpu().float().eval()
    for part in copy.modules():
        if isinstance(part, BiAttention):
            part.backend = "torch"
    with torch.no_grad():
        return copy(*(part.cpu() for part in inputs))


def training_step(model: nn.Module, inputs: tuple[Tensor, ...], how: How, run: Callable | None = None) -> Run:
    """Return a step as PointMLP's recipe has it, without augmentation; ``run``: what to call in place of the model."""
    model.train()
    optimizer = make_optimizer(Optim(name="sgd", lr=1e-3), model.named_parameters())
    label = torch.zeros(len(inputs[0]), dtype=torch.long, device=how.device)

    def step() -> Tensor:
        with how.precision():
            loss = cross_entropy((run or model)(*inputs).float(), label, label_smoothing=0.2)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def _flops(model: nn.Module, example: tuple[Tensor, ...], how: How) -> float:
    """Return what one example costs a GPU's matrix units, if fvcore can tell; the table of a CPU does not need it."""
    try:
        return 2.0 * count_cost(model, *example).flops if how.on_gpu else 0.0
    except InputError:
        return 0.0
