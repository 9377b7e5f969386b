"""A trained run as one file that needs no bixt3d to run: a program of torch.export, or an ONNX model.

The file takes any number of clouds, each of ``num_points`` points that are centred and scaled as in training. Farthest
point sampling and the search for neighbors are inside, and so are the names of what it predicts.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.datasets.shapes.shapes import Shapes
from bixt3d.engine.checkpoint import write_whole
from bixt3d.inference.clouds import CloudPredictor
from bixt3d.inference.images import BaseImagePredictor
from bixt3d.inference.runs import SavedRun, read_run
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.nn.feature_scale import FeatureScale
from bixt3d.types import InputError

Format = Literal["torch", "onnx"]
Clouds = dict[str, Tensor]
SUFFIX = {"torch": ".pt2", "onnx": ".onnx"}
TOLERANCE = 1e-3
"""How far the logits of a file may be from the model's, as a share of the largest of them."""


class ExportForm(nn.Module):
    """A model whose file asks for what the model reads: always ``xyz``, ``feats`` and ``category`` where needed."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(
        self,
        xyz: Float[Tensor, "B N 3"],
        feats: Float[Tensor, "B N F"] | None = None,
        category: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B ..."]:
        if isinstance(self.model, CloudSegmenter):
            return self.model(xyz, feats, category)
        return self.model(xyz, feats)


def export_run(
    run: str | Path, kind: Format = "onnx", out: Path | None = None, trust: bool = False
) -> tuple[Path, str]:
    """Export a run, compare the file with the model, and write it; returns its path and what the comparison found.

    The file lies beside the run's weights unless ``out`` names another place. ``trust``: see `load_run`. Raises
    InputError if there is no such run, a package is missing, or the file would not compute what the model does: then
    nothing is written.
    """
    if kind not in SUFFIX:
        raise InputError(f"unknown format '{kind}': choose {' or '.join(SUFFIX)}")
    if kind == "onnx" and not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        raise InputError('an ONNX model needs onnx, onnxscript and onnxruntime: pip install "bixt3d[export]"')
    saved = read_run(run, trust=trust)
    predictor = saved.load()
    if isinstance(predictor, BaseImagePredictor):
        raise InputError(f"{run} is a run on images, which cannot be exported yet: only runs on clouds can")
    form, clouds = ExportForm(predictor.model).eval(), example_clouds(predictor)
    few = {name: values[:2] for name, values in clouds.items()}
    content, call = {"torch": to_torch, "onnx": to_onnx}[kind](form, few, describe(saved, predictor))
    found = compare(call, form, clouds)
    weights = Path(run) / "model" if Path(run).is_dir() else Path(run)
    out = out or weights.with_suffix(SUFFIX[kind])
    write_whole(out, lambda temporary: temporary.write_bytes(content))
    return out, found


def describe(saved: SavedRun, predictor: CloudPredictor) -> dict[str, str]:
    """Return what the file says about itself: task, names, and what clouds must be like; lists and dicts as JSON."""
    names = {key: json.dumps(value) for key, value in saved.names.items()}
    wanted = {"num_points": str(predictor.num_points), "features": str(predictor.features), "up": predictor.up}
    return {"task": saved.task.name, **names, **wanted}


def example_clouds(predictor: CloudPredictor) -> Clouds:
    """Return one procedural object of each kind, as the inputs that the file will take."""
    _, shapes = Shapes(train_per_class=1, test_per_class=1, num_points=predictor.num_points, features="normal").load()
    clouds = {"xyz": shapes.xyz}
    if features := predictor.features:
        random = torch.rand(*shapes.xyz.shape[:2], features.width, generator=torch.Generator().manual_seed(0))
        scale = next((part for part in predictor.model.modules() if isinstance(part, FeatureScale)), None)
        if scale is not None and scale.scales:  # as far from 0 as the numbers of the training set
            random = scale.mean.cpu() + scale.deviation.cpu() * (2 * random - 1)
        clouds["feats"] = features.change(random, "normal", lambda _: shapes.feats)
    if getattr(predictor.model, "reads_category", False):
        clouds["category"] = shapes.label % len(predictor.class_names)
    return clouds


def to_torch(form: ExportForm, clouds: Clouds, facts: dict[str, str]) -> tuple[bytes, Callable[[Clouds], Tensor]]:
    """Return the content of a file for `torch.export.load`, and a function that runs it."""
    program = torch.export.export(form, (), clouds, dynamic_shapes=_any_number(clouds))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are for the authors of torch
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(facts)})
        loaded = torch.export.load(io.BytesIO(file.getvalue())).module()
    return file.getvalue(), lambda clouds: loaded(**clouds)


def to_onnx(form: ExportForm, clouds: Clouds, facts: dict[str, str]) -> tuple[bytes, Callable[[Clouds], Tensor]]:
    """Return the content of an ONNX file, and a function that runs it in onnxruntime."""
    import onnx_ir.passes.common
    import onnxruntime
    import onnxscript.optimizer

    for name in ("onnxscript", "torch.onnx._internal.exporter._registration"):  # too talkative
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are for the authors of the exporter
        program = torch.onnx.export(
            form,
            kwargs=clouds,
            input_names=list(clouds),
            output_names=["logits"],
            dynamic_shapes=_any_number(clouds),
            dynamo=True,
            verbose=False,
            optimize=False,  # it would replace the 1e-8 of `interpolate` by 0; the two steps below are enough
        )
    onnxscript.optimizer.fold_constants(program.model, onnx_shape_inference=True)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    onnx_ir.passes.common.ClearMetadataAndDocStringPass()(program.model)  # a third of a small file, with paths of ours
    program.model.metadata_props.update(facts)
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def call(clouds: Clouds) -> Tensor:
        return torch.from_numpy(session.run(None, {name: values.numpy() for name, values in clouds.items()})[0])

    return content, call


def _any_number(clouds: Clouds) -> dict[str, dict]:
    batch = torch.export.Dim("batch", min=1)
    return {name: {0: batch} for name in clouds}


@torch.no_grad()
def compare(call: Callable[[Clouds], Tensor], form: ExportForm, clouds: Clouds) -> str:
    """Say how near a file comes to its model, on batches of several sizes. Raises InputError where it is too far."""
    expected = form(**clouds)
    batches = slice(0, 1), slice(1, 6), slice(6, None)
    logits = torch.cat([call({name: values[batch] for name, values in clouds.items()}) for batch in batches])
    furthest = float((logits - expected).abs().max())
    same = logits.argmax(-1) == expected.argmax(-1)
    labels = f"{int(same.sum())} of {same.numel()} labels are the model's, and " if expected.shape[-1] > 1 else ""
    found = f"{labels}the logits differ by {furthest:.1e} at most (they reach {float(expected.abs().max()):.1f})"
    if not furthest <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise InputError(f"the file would not compute what the model does, so it was not written: only {found}")
    return found
