"""Likely mistakes of those who call bixt3d from Python: one sentence each, not an error from deep inside."""

from collections.abc import Callable
from inspect import unwrap
from typing import Any

import numpy as np
import pytest
import torch

import bixt3d
from bixt3d.errors import check_path, check_tensors, check_whole
from bixt3d.inference.cloud_predictor import check_predictor
from bixt3d.types import InputError

XYZ = torch.rand(50, 3)
ARRAY = np.zeros((2, 8, 3), np.float32)
NAMES = ("cup", "mug")


def predictor(**changes: Any) -> bixt3d.Predictor:
    model = bixt3d.create_model("shapes_cls", 2, encoder={"depth": 1})
    given = {"class_names": NAMES, "num_points": 64} | changes
    return bixt3d.Predictor(model, **given)


def free(function: Callable) -> Callable:
    """Return a function as users have it: without the checks of types that pytest adds."""
    return unwrap(function)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: free(bixt3d.farthest_points)(ARRAY, 2),
            "points is a torch tensor, not of type ndarray: give torch.as",
        ),
        (lambda: free(bixt3d.farthest_points)(XYZ, 2), r"points are \(B, N, P\), not \(50, 3\): give one cloud as poi"),
        (lambda: free(bixt3d.farthest_points)(XYZ[None], 2.5), "num_points is a whole number, not 2.5"),
        (lambda: free(bixt3d.knn)(XYZ[None], ARRAY, 2), "points is a torch tensor"),
        (lambda: free(bixt3d.knn)(XYZ[None], XYZ[None], "3"), "num_neighbors is a whole number, not '3'"),
        (lambda: free(bixt3d.interpolate)(ARRAY, ARRAY, ARRAY), "queries is a torch tensor"),
        (lambda: free(bixt3d.gather)(XYZ[None], torch.rand(1, 2)), "index holds whole numbers, not torch.float32"),
        (lambda: free(bixt3d.normalize_clouds)(ARRAY), "xyz is a torch tensor"),
        (lambda: free(bixt3d.normalize_clouds)(XYZ), r"shape \(B, N, 3\), not \(50, 3\): give a single cloud as xyz"),
        (lambda: free(bixt3d.estimate_normals)(XYZ[None]), r"one cloud of shape \(N, 3\), not \(1, 50, 3\)"),
        (
            lambda: free(bixt3d.Features.check)(bixt3d.Features(), ARRAY, None),
            "xyz is a torch tensor",
        ),
        (
            lambda: free(bixt3d.Features.parse.__func__)(bixt3d.Features, ["normal"]),
            "features are written as text",
        ),
        (lambda: free(bixt3d.create_model)("shapes_cls", 2.5), "num_classes is a whole number, at least 0, not 2.5"),
        (lambda: free(bixt3d.create_model)(None, 2), "name is a path, not None"),
        (lambda: free(bixt3d.list_models)(5), "pattern is text, such as 'modelnet', not 5"),
        (
            lambda: free(bixt3d.train)("shapes_cls", train=1),
            r"train is a mapping of settings, such as train=\{'epochs'",
        ),
        (lambda: free(bixt3d.train)("shapes_cls", optim=[1]), "optim is a mapping of settings"),
        (lambda: free(bixt3d.train)("shapes_cls", seeds=3), r"seeds is a list of whole numbers, such as \[0, 1, 2\]"),
        (lambda: free(bixt3d.train)(None), "config is a path, not None"),
        (lambda: free(bixt3d.read_run)(None), "run is a path, not None"),
        (
            lambda: predictor().predict(XYZ, category="mug"),
            "category is for part segmenters, and this predictor is for",
        ),
        (lambda: predictor().to("nowhere"), "the model cannot be moved to nowhere: Expected one of cpu, cuda"),
        (
            lambda: check_predictor(None, 64, "y"),
            "model is an nn.Module, not None: load_run makes",
        ),
        (lambda: predictor(class_names="ab"), "class_names is a list of names, one for each of the model's 2 outputs"),
        (lambda: predictor(class_names=("a", "b", "c")), "the model's 2 outputs, not 3 of them"),
        (lambda: predictor(num_points=0), "num_points must be at least 1, not 0"),
        (lambda: check_predictor(torch.nn.Linear(1, 1), 64, "w"), "up is one of y, z, -y, -z, not 'w'"),
        (lambda: check_tensors(category=3), "category is a torch tensor, not of type int$"),
        (lambda: check_whole(num_classes=True), "num_classes is a whole number, not True"),
        (lambda: check_path(run=5), "run is a path, not 5"),
    ],
)
def test_a_likely_mistake_gets_one_sentence(call: Callable, sentence: str):
    with pytest.raises(InputError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)
