"""What a training step costs: what keeping freed memory saves, and our model with grouping beside PointMLP."""

from collections.abc import Iterator

from bench_case import Case, How, Row, Run, Target
from bench_measure import compiled, measure, not_run
from bench_models import cloud_batch, make_cloud_model, training_step
from torch import Tensor

from bixt3d.engine.runtime import keep_freed_memory
from bixt3d.models.presets import build_model

COMPILED = {"compiled": None, "CUDA graphs": "reduce-overhead"}
"""What `--runtime.compile` and `--runtime.cuda_graphs` ask torch.compile for."""


def bench_train(how: How) -> Iterator[list[Row]]:
    """Measure training steps, the first one before anything keeps freed memory."""
    yield small_step(how)
    for num_clouds in (32, 128) if how.on_gpu else (2,) if how.small else (4,):
        yield measure(step_case(num_clouds, how), how)


def small_step(how: How) -> list[Row]:
    """Measure a step of `modelnet10_small` on 32 clouds, before and after the C library keeps memory."""
    num_clouds = 2 if how.small else 32
    step = training_step(build_model("modelnet10_small", 10).to(how.device), cloud_batch(num_clouds, 512, how), how)
    rows: list[Row] = []
    for name in ("as the C library comes", "keeping freed memory"):
        if rows:
            keep_freed_memory()  # it cannot be undone, so these two cannot take turns
        title = f"training step, modelnet10_small, {num_clouds} clouds of 512 points"
        case = Case(title, name, {name: step}, _is_finite, num_clouds, "clouds", clock="wall")
        rows += measure(case, how)
    rows[1] |= {"baseline": rows[0]["variant"], "speedup": rows[1]["per_second"] / rows[0]["per_second"]}
    return rows


def step_case(num_clouds: int, how: How) -> Case:
    """Return the training step of the model with grouping and of both PointMLPs, as they are and compiled."""
    inputs = cloud_batch(num_clouds, 512 if how.small else 1024, how)
    variants: dict[str, Run] = {}
    for name in ("PointMLP", "PointMLP-elite", "grouping"):
        variants[name] = training_step(make_cloud_model(name, how), inputs, how)
        for words, mode in COMPILED.items():
            variants[f"{name}, {words}"] = not_run("compiling a whole model takes minutes on a CPU")
            if how.on_gpu:
                model = make_cloud_model(name, how)
                variants[f"{name}, {words}"] = training_step(model, inputs, how, compiled(model, how, mode))
    targets = []
    if how.on_gpu:
        for name in ("grouping", *(f"grouping, {words}" for words in COMPILED)):
            targets += [Target(name, "per_second", 2000), Target(name, "speedup", 5)]
    return Case(
        f"training step, modelnet40, {num_clouds} clouds of {inputs[0].shape[1]} points",
        "PointMLP",
        variants,
        _is_finite,
        num_clouds,
        "clouds",
        clock="wall",
        targets=tuple(targets),
    )


def _is_finite(name: str, loss: Tensor) -> None:
    assert loss.isfinite(), "the loss is no number"
