"""Export a trained run as one file that runs without bixt3d: a program of torch.export, or an ONNX model.

The file takes raw clouds with any number of points and gives the output of the run's predictor: it includes the
preprocessing (see `graphs`) and the names of the classes. docs/onnx.md shows how to use it.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bixt3d.datasets.shapes.shapes import Shapes
from bixt3d.engine.checkpoint import write_whole
from bixt3d.inference.cloud_predictor import CloudPredictor
from bixt3d.inference.graphs import as_graph
from bixt3d.inference.images import BaseImagePredictor, ImagePredictor, ImageSegmentationPredictor
from bixt3d.inference.runs import SavedRun, read_run
from bixt3d.io.extras import need
from bixt3d.io.pretrained import results_folder
from bixt3d.nn.feature_scale import FeatureScale
from bixt3d.types import InputError
from bixt3d.version import __version__

Format = Literal["torch", "onnx"]
Inputs = dict[str, Any]
"""Inputs of a graph by name: tensors, and ``features``, a dict of tensors."""
Call = Callable[[Inputs], Tensor]
SUFFIX = {"torch": ".pt2", "onnx": ".onnx"}
TOLERANCE = 1e-3
"""The largest difference of a file's output from the predictor's, relative to its largest value, or to 1."""


def export_run(
    run: str | Path, kind: Format = "onnx", out: str | Path | None = None, trust: bool = False
) -> tuple[Path, str]:
    """Export a run, compare the file with the model, and write it; return its path and the result of the comparison.

    ``out``: path of the file; None: beside the run's weights, for weights by name in ``runs/NAME``. ``trust``: see
    `load_run`. Raises InputError, and writes nothing, if there is no such run, a package is missing, or the output
    differs too much from the predictor's.
    """
    if kind not in SUFFIX:
        raise InputError(f"unknown format '{kind}': choose {' or '.join(SUFFIX)}")
    if kind == "onnx":
        need("an ONNX model", "onnx", "onnx_ir", "onnxruntime", "onnxscript")
    saved = read_run(run, trust=trust)
    out = Path(out or results_folder(saved.path) / saved.path.with_suffix(SUFFIX[kind]).name)
    predictor = saved.load()
    if not isinstance(predictor, CloudPredictor | BaseImagePredictor):
        raise InputError(
            f"a run of {saved.task.name} cannot be exported: it reads scenes in windows, not one cloud or image; "
            "bixt3d predict labels files with it"
        )
    graph = as_graph(predictor)
    content, call = {"torch": to_torch, "onnx": to_onnx}[kind](
        graph, example_inputs(predictor, 2), free_sizes(predictor), describe(saved, predictor)
    )
    found = compare(call, graph, predictor)
    write_whole(out, lambda temporary: temporary.write_bytes(content))
    return out, found


def describe(saved: SavedRun, predictor: CloudPredictor | BaseImagePredictor) -> dict[str, str]:
    """Return the metadata of the file: task, names, and a description of its input; lists and dicts as JSON."""
    facts = {"task": saved.task.name, "version": __version__}
    facts |= {key: json.dumps(value) for key, value in saved.names.items()}
    if isinstance(predictor, CloudPredictor):
        return facts | {
            "num_points": str(predictor.num_points),
            "features": str(predictor.features),
            "up": predictor.up,
        }
    if isinstance(predictor, ImagePredictor):
        return facts | {"size": str(predictor.size), "crop_fraction": str(predictor.crop_fraction)}
    return facts | {"stride": str(getattr(predictor.model, "stride", 1)), "window": str(predictor.window or "")}


def example_inputs(predictor: CloudPredictor | BaseImagePredictor, count: int, size: int | None = None) -> Inputs:
    """Return example inputs of the file: procedural objects, or random images.

    ``size``: number of points of a cloud; None: some more than the model reads.
    """
    if isinstance(predictor, BaseImagePredictor):
        random = torch.Generator().manual_seed(0)
        return {"image": torch.randint(256, (count, *image_shape(predictor), 3), generator=random).byte()}
    size = size or predictor.num_points + 3
    _, shapes = Shapes(train_per_class=1, test_per_class=1, num_points=size, features="normal").load()
    inputs: Inputs = {"xyz": 3 * shapes.xyz[:count].double() + 1}
    if predictor.features:
        inputs["features"] = example_features(predictor, shapes.feats[:count])
    if getattr(predictor.model, "reads_category", False):
        inputs["category"] = torch.arange(len(inputs["xyz"])) % len(predictor.class_names)
    return inputs


def example_features(predictor: CloudPredictor, normals: Tensor) -> dict[str, Tensor]:
    """Return features by name: the normals, random colors, and random scalars in the range of the training set."""
    random = torch.rand(*normals.shape[:2], predictor.features.width, generator=torch.Generator().manual_seed(0))
    scale = next((part for part in predictor.model.modules() if isinstance(part, FeatureScale)), None)
    if scale is not None and scale.scales:
        random = scale.mean.cpu() + scale.deviation.cpu() * (2 * random - 1)
    feats = predictor.features.apply(random, "normal", lambda _: normals)
    return {name: predictor.features.take(feats, name) for name in predictor.features.names}


def image_shape(predictor: BaseImagePredictor) -> tuple[int, int]:
    """Return the rows and columns of an example image."""
    if isinstance(predictor, ImagePredictor):
        return predictor.size, predictor.size
    stride = getattr(predictor.model, "stride", 1)
    return (predictor.window, predictor.window) if predictor.window else (4 * stride, 6 * stride)


def free_sizes(predictor: CloudPredictor | BaseImagePredictor) -> dict[str, Any]:
    """Return the dynamic shapes: axes of the inputs that may have any length (batch, points, rows, columns)."""
    batch = torch.export.Dim("batch", min=1)
    if isinstance(predictor, CloudPredictor):
        points = {0: batch, 1: torch.export.Dim("points", min=1)}
        sizes = {"xyz": points, "features": {name: points for name in predictor.features.names}, "category": {0: batch}}
        return {name: sizes[name] for name in example_inputs(predictor, 1)}
    if isinstance(predictor, ImageSegmentationPredictor) and not predictor.window:
        rows, columns = (
            getattr(predictor.model, "stride", 1) * torch.export.Dim(name, min=2) for name in ("rows", "columns")
        )
        return {"image": {0: batch, 1: rows, 2: columns}}
    return {"image": {0: batch}}


def to_torch(graph: nn.Module, inputs: Inputs, sizes: dict[str, Any], facts: dict[str, str]) -> tuple[bytes, Call]:
    """Return the content of a file for `torch.export.load`, and a function that runs it."""
    program = torch.export.export(graph, (), inputs, dynamic_shapes=sizes)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they concern torch only
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(facts)})
        loaded = torch.export.load(io.BytesIO(file.getvalue())).module()
    return file.getvalue(), lambda inputs: loaded(**inputs)


def to_onnx(graph: nn.Module, inputs: Inputs, sizes: dict[str, Any], facts: dict[str, str]) -> tuple[bytes, Call]:
    """Return the content of an ONNX file, and a function that runs it in onnxruntime."""
    import onnx_ir.passes.common
    import onnxruntime
    import onnxscript.optimizer

    for name in ("onnxscript", "torch.onnx._internal.exporter._registration"):  # too verbose
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they concern the exporter only
        program = torch.onnx.export(
            graph,
            kwargs=inputs,
            input_names=list(by_name(inputs)),
            output_names=[graph.output],
            dynamic_shapes=sizes,
            dynamo=True,
            verbose=False,
            optimize=False,  # it would replace the 1e-8 of `interpolate` by 0; the two steps below are enough
        )
    onnxscript.optimizer.fold_constants(program.model, onnx_shape_inference=True)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    onnx_ir.passes.common.ClearMetadataAndDocStringPass()(program.model)  # a third of a small file, with local paths
    program.model.metadata_props.update(facts)
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def call(inputs: Inputs) -> Tensor:
        return torch.from_numpy(session.run(None, {name: each.numpy() for name, each in by_name(inputs).items()})[0])

    return content, call


def by_name(inputs: Inputs) -> dict[str, Tensor]:
    """Return the inputs of an ONNX file by name: each feature is one input."""
    found: dict[str, Tensor] = {}
    for name, values in inputs.items():
        found |= values if isinstance(values, dict) else {name: values}
    return found


@torch.no_grad()
def compare(call: Call, graph: nn.Module, predictor: CloudPredictor | BaseImagePredictor) -> str:
    """Compare a file with the predictor on inputs of several sizes; raise InputError if they differ too much."""
    points = getattr(predictor, "num_points", 0)
    sizes = ((1, points + 3), (3, max(2, points // 3)), (16, points)) if points else ((1, None), (3, None))
    furthest, largest, same, total = 0.0, 1.0, 0, 0
    for count, size in sizes:
        inputs = example_inputs(predictor, count, size)
        expected, output = graph(**inputs), call(inputs)
        axis = 1 if isinstance(predictor, BaseImagePredictor) else -1
        same_mask = output.argmax(axis) == expected.argmax(axis)
        same, total = same + int(same_mask.sum()), total + same_mask.numel()
        furthest = max(furthest, float((output - expected).abs().max().nan_to_num(torch.inf)))
        largest = max(largest, float(expected.abs().max()))
    labels = f"{same} of {total} labels are the model's, and " if graph.output == "probabilities" else ""
    found = f"{labels}the {graph.output} differ by {furthest:.1e} at most"
    if not furthest <= TOLERANCE * largest:
        raise InputError(f"the file would not compute what the model does, so it was not written: only {found}")
    return found
