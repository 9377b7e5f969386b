"""The output of ``bixt3d cost``: the paper's tables beside our counts, and the cost of any config."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

import bixt3d.models
from bixt3d.cli.costs import Cost, count_cost, count_point_work
from bixt3d.cli.paper_tables import Row
from bixt3d.config import is_text
from bixt3d.models.create import create_model
from bixt3d.models.described import without_pretrained
from bixt3d.models.image_classifier import ImageClassifier
from bixt3d.models.image_preset_table import PRESETS
from bixt3d.models.image_segmenter import ImageSegmenter
from bixt3d.models.presets import read_model_config
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.tasks.from_python import choose_task
from bixt3d.tokenizers import VoxelTokenizer
from bixt3d.types import InputError

OUTPUTS = {
    "Shapes": (16, 58),
    "ShapeNetPart": (16, 50),
    "modelnet10": (10, 0),
    "modelnet40": (40, 0),
    "psb_partseg": (19, 94),
    "cifar10": (10, 0),
    "camvid": (11, 0),
    "imagenet": (1000, 0),
    "ADEChallengeData2016": (150, 0),
}
"""Numbers of classes and of parts of the data sets that configs name, by class or by the beginning of the folder."""

WORK = {"distances": "distances", "copied": "elements copied"}


@cache
def preset_cost(name: str, size: int) -> Cost:
    """Return the cost of a model of the paper on one image: 1000 classes, or 150 for a segmenter."""
    kind = ImageClassifier if PRESETS[name].head == "classes" else ImageSegmenter
    with torch.device("meta"):  # only shapes count
        model, image, _ = image_example(kind, name, size, None)
    return count_cost(model, *image)


def compare(row: Row) -> dict[str, Any]:
    """Return a row with the paper's figures, our counts, and whether they agree to the printed digit."""
    cost = preset_cost(row.preset, PRESETS[row.preset].size)
    ours = {"flops": cost.flops / 1e9, "activations": cost.activations / 1e6, "parameters": cost.parameters / 1e6}
    printed = {name: None if text == "-" else text for name, text in zip(ours, row.printed.split(), strict=True)}
    agrees = {name: text is None or text == rounded(ours[name], text) for name, text in printed.items()}
    return {"row": row.title, "preset": row.preset, "paper": printed, "ours": ours, "agrees": agrees, "note": row.note}


def rounded(value: float, like: str) -> str:
    """Return a number with as many decimals as another printed one."""
    return f"{value:.{len(like.partition('.')[2])}f}"


def print_tables(found: dict[str, list[dict[str, Any]]]) -> None:
    """Print paper and ours side by side: = where they agree to the printed digit, # where they do not."""
    for table, rows in found.items():
        print(f"Table {table:<38}{'FLOPs [G]':>18}{'Mem. [M]':>20}{'#Param [M]':>20}")
        for row in rows:
            cells = []
            for name, value in row["ours"].items():
                printed = row["paper"][name] or "-"
                mark = " " if row["paper"][name] is None else "=" if row["agrees"][name] else "#"
                cells.append(f"{printed:>9} {mark} {value:8.4f}")
            print(f"{row['row']:42}{''.join(cells)}" + (f"  ({row['note']})" if row["note"] else ""))
        print()
    rows = [row for rows in found.values() for row in rows]
    right = sum(all(row["agrees"].values()) for row in rows)
    print(f"paper = ours to the printed digit in {right} of {len(rows)} rows; # marks the figures that differ")


def model_class(settings: dict[str, Any]) -> type:
    """Return the bixt3d class of a config's model; `nn.Module` if it is none, which building the model reports."""
    described = settings["model"]
    path = described.get("class_path", "") if isinstance(described, dict) else str(described)
    found = getattr(bixt3d.models, str(path).rpartition(".")[2], nn.Module)
    return found if isinstance(found, type) else nn.Module


def make_example(cfg: str, size: int | None, classes: int | None) -> tuple[nn.Module, list[Tensor], str]:
    """Return the model of a config or preset, one example input, and a description."""
    if cfg in PRESETS:
        kind = ImageClassifier if PRESETS[cfg].head == "classes" else ImageSegmenter
        return image_example(kind, cfg, size or PRESETS[cfg].size, classes)
    settings = without_pretrained(read_model_config(cfg))  # released weights change no cost
    kind, config = model_class(settings), yaml.safe_dump({key: settings.get(key) for key in ("data", "model")})
    own_classes, own_parts = known_outputs(settings.get("data"))
    data = settings.get("data")
    data = (data.get("init_args") if isinstance(data, dict) else None) or {}  # a name alone has no settings
    if isinstance(data, dict) and isinstance(several := data.get("num_points"), list) and several:
        data = data | {"num_points": several[0]}  # crops of several sizes: the smallest
    if not isinstance(data, dict) or not all(isinstance(data.get(key, 1), int) for key in ("size", "num_points")):
        raise InputError(f"{'the config' if is_text(cfg) else cfg} lacks the settings of its data")
    if issubclass(kind, (ImageClassifier, ImageSegmenter)):
        return image_example(kind, config, size or data.get("size", 224), classes or own_classes)
    outputs = classes or (own_parts if issubclass(kind, CloudSegmenter) else own_classes)
    return cloud_example(kind, config, size or data.get("num_points", 1024), outputs, own_classes or 16)


def known_outputs(data: Any) -> tuple[int | None, int | None]:
    """Return the numbers of classes and parts of the data set in a config; None for one that is not known."""
    name = str(data.get("class_path") if isinstance(data, dict) else data).rpartition(".")[2]
    given = data.get("init_args") if isinstance(data, dict) else None
    root = Path(str(given.get("root", ""))).name if isinstance(given, dict) else ""
    for known, (classes, parts) in OUTPUTS.items():
        if name == known or root.startswith(known):
            return classes, parts or None
    return None, None


def image_example(kind: type, config: str, size: int, classes: int | None) -> tuple[nn.Module, list[Tensor], str]:
    """Return a model of images, one image, and a description."""
    labels_pixels = issubclass(kind, ImageSegmenter)
    classes = classes or (150 if labels_pixels else 1000)
    model = create_model(config, classes)
    return model, [torch.zeros(1, 3, size, size)], f"one image of {size} x {size} pixels, {classes} classes"


def cloud_example(
    kind: type, config: str, size: int, outputs: int | None, categories: int
) -> tuple[nn.Module, list[Tensor], str]:
    """Return a model of clouds, one cloud, and a description."""
    assumed = " (assumed: --classes says another number)" if outputs is None else ""
    if issubclass(kind, CloudSegmenter):
        outputs, category = outputs or 50, [torch.zeros(1).long()]
        model, words = create_model(config, outputs, num_categories=categories), f"parts of {categories} categories"
    else:
        outputs, category = outputs or 40, []
        model, words = create_model(config, outputs), "classes"
    cloud = [torch.zeros(1, size, 3), torch.zeros(1, size, model.features.width)]
    with_features = f" with {model.features}" if model.features else ""
    return model, [*cloud, *category], f"one cloud of {size} points{with_features}, {outputs} {words}{assumed}"


def together(cfgs: Sequence[str]) -> str:
    """Return a config as text, changed by those behind it as training does; a single one is returned as it is."""
    if len(cfgs) == 1:
        return cfgs[0]
    if presets := [cfg for cfg in cfgs if cfg in PRESETS]:
        raise InputError(f"{presets[0]} is the name of an image model, which no config goes together with")
    parser = choose_task(None, cfgs[0]).make_parser("")
    settings = parser.parse_args([f"--cfg={cfg}" for cfg in cfgs])
    settings.pop("cfg")
    return parser.dump(settings, skip_unset=False)


def describe(cfgs: Sequence[str], size: int | None, classes: int | None) -> dict[str, Any]:
    """Return the cost of a config, changed by those behind it, as JSON types; `print_cost` prints it."""
    config = together(cfgs)
    with torch.device("meta"):  # only shapes count
        model, inputs, words = make_example(config, size, classes)
    if any(isinstance(module, VoxelTokenizer) for module in model.modules()):
        raise InputError(
            f"the cost of {' + '.join(cfgs)} depends on the scene: its tokens are the voxels that have points; "
            "bixt3d compare run measures time and memory"
        )
    work = [] if isinstance(model, (ImageClassifier, ImageSegmenter)) else count_point_work(model, *inputs)
    cost = asdict(count_cost(model, *inputs))
    return {"config": " + ".join(cfgs), "example": words, **cost, "point_work": [asdict(one) for one in work]}


def print_cost(found: dict[str, Any]) -> None:
    """Print the cost of a config."""
    print(f"{found['config']}: {found['example']}")
    print(f"FLOPs       {found['flops'] / 1e9:10.4f} G  multiply-adds, as the paper counts (fvcore's defaults)")
    print(f"activations {found['activations'] / 1e6:10.4f} M  elements that convolutions and matrix products put out")
    print(f"parameters  {found['parameters'] / 1e6:10.4f} M")
    if found["point_work"]:
        print("besides, not in the FLOPs (distances: all pairs that are compared, 3 multiply-adds each):")
    for work in found["point_work"]:
        counts = [f"{work[name] / 1e6:.4f} M {what}" for name, what in WORK.items() if work[name]]
        calls = "call" if work["calls"] == 1 else "calls"
        print(f"  {work['operator']:24}{work['calls']:3} {calls}, {', '.join(counts)}")
