"""Choices for clouds and images alike: indices in a test set, layers and latents of attention maps."""

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

from bixt3d.inference.scenes import ScenePredictor
from bixt3d.io.named_configs import nearest
from bixt3d.models.attention_maps import LayerAttention
from bixt3d.tasks import TASKS, find_task
from bixt3d.types import InputError
from bixt3d.viz.attention import AttentionMap

OF_SCENES = (
    "bixt3d visualize draws no scenes: a run has pictures of its test scenes (predictions.png, scenes.html), and "
    "bixt3d predict FILE --checkpoint RUN --out FOLDER draws files"
)


def check_drawn(task: Any) -> None:
    """Raise InputError for a task whose predictions cannot be drawn."""
    if task.name == ScenePredictor.task:
        raise InputError(OF_SCENES)
    if not isinstance(task, tuple(type(find_task(name)) for name in TASKS)):
        raise InputError(f"bixt3d visualize cannot draw a {task.name} run")


def choose(arguments: Namespace, test: Any, unit: str = "cloud") -> list[int]:
    """Return the indices in the test set to predict: those given, all (to find the worst), or evenly spaced ones."""
    if arguments.index:
        if wrong := [place for place in arguments.index if not 0 <= place < len(test)]:
            raise InputError(f"--index {wrong[0]}: the test set has {len(test)} {unit}s, 0 to {len(test) - 1}")
        return arguments.index
    places = list(range(len(test)))
    if arguments.category:
        if arguments.category not in test.class_names:
            raise InputError(
                f"there is no category '{arguments.category}'" + nearest(arguments.category, test.class_names)
            )
        label = test.class_names.index(arguments.category)
        places = [place for place, its in enumerate(test.label.tolist()) if its == label]
        if not places:
            raise InputError(f"the test set has no {unit} of category '{arguments.category}'")
    if arguments.worst:
        return places
    spread = np.linspace(0, len(places) - 1, min(arguments.count, len(places))).round().astype(int)
    return [places[place] for place in spread]


def to_numpy(layer: LayerAttention) -> AttentionMap:
    """Return a layer as NumPy arrays for drawing; patches of an image have z = 0."""
    pos = np.pad(layer.pos.numpy(), ((0, 0), (0, 3 - layer.pos.shape[1])))
    reads, writes = (None if one is None else one.numpy() for one in (layer.reads, layer.writes))
    return AttentionMap(pos, reads, writes, layer.symmetry)


def check_latents(latents: Sequence[int] | None, maps: Sequence[AttentionMap]) -> None:
    """Raise InputError for a latent that the model does not have."""
    num = min(len(one.reads) if one.reads is not None else one.writes.shape[1] for one in maps)
    if wrong := [latent for latent in latents or () if not 0 <= latent < num]:
        raise InputError(f"--latents {wrong[0]}: this model has {num} latents, 0 to {num - 1}")


def choose_layer(layer: int | None, maps: Sequence[AttentionMap]) -> int:
    """Return the index of a layer, given from 1; None: the last bi-directional one, or else the last.

    Raises InputError for a layer that the model does not have.
    """
    if layer is not None:
        if not 1 <= layer <= len(maps):
            raise InputError(f"--layer {layer}: this model has {len(maps)} layers, 1 to {len(maps)}")
        return layer - 1
    two_sided = [place for place, one in enumerate(maps) if one.reads is not None and one.writes is not None]
    return two_sided[-1] if two_sided else len(maps) - 1
