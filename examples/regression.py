"""A task of your own in one file: say how tall a cloud is for its size, a number in place of a class.

python examples/regression.py train --cfg examples/regression.yaml
python examples/regression.py test [RUN]
python examples/regression.py predict RUN FILE ...

Move the class into `bixt3d/tasks/`, add its line to `bixt3d/tasks/__init__.py`, and every program knows it.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from bixt3d import load_run
from bixt3d.cloud_predictor import CloudPredictor
from bixt3d.datasets import CloudSource, take_points
from bixt3d.engine.loop import Batch, Step, predict_all
from bixt3d.models.presets import MakeClassifier
from bixt3d.predictions import check_finite
from bixt3d.program import run_program
from bixt3d.tasks.inputs import read_clouds
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.task import Task
from bixt3d.tasks.testing import test
from bixt3d.tasks.training import train
from bixt3d.types import CloudSet, InputError

EXAMPLE = "python examples/regression.py train --cfg examples/regression.yaml"


def height_of(xyz: Float[Tensor, "B N 3"]) -> Float[Tensor, " B"]:
    """Return the extent along y: what the model is to say without being told which axis counts."""
    return xyz[..., 1].amax(1) - xyz[..., 1].amin(1)


@dataclass
class HeightEvaluation(Evaluation):
    """How far off the heights of a set were."""

    error: float

    def row(self) -> dict[str, float]:
        return {"error": self.error}

    def facts(self) -> dict[str, Any]:
        return {"mean_absolute_error": self.error}

    def text(self) -> str:
        return f"mean absolute error {self.error:.4f}"


class HeightPredictor(CloudPredictor):
    """A trained model that says how tall clouds are, as a share of the radius of the sphere around them."""

    @torch.inference_mode()
    def predict(self, clouds: Any) -> list[float]:
        heights = []
        for cloud in self._clouds(clouds, None, None)[1]:
            xyz, index, feats = self._prepare(cloud, None)
            height = self.model(xyz[:, index].to(self.device), feats.to(self.device))
            check_finite(height, cloud.name)
            heights.append(float(height))
        return heights


class HeightRegression(Task):
    """Say how tall a cloud is."""

    name, program, example = "height regression", "height", EXAMPLE
    headline = {"mean_absolute_error": Score("error", more_is_better=False, form=".4f")}
    data, model = CloudSource, MakeClassifier  # a classifier of one class: its logit is the number
    name_keys, train_column = ("outputs",), "train_error"

    def names(self, clouds: CloudSet) -> dict[str, Any]:
        return {"outputs": ["height"]}

    def outputs(self, names: Mapping[str, Any]) -> tuple[int, ...]:
        return (len(names["outputs"]),)

    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        return HeightPredictor(model, **read_clouds(given, model, source))

    def command(self, verb: str) -> str:
        return f"python examples/regression.py {verb}"

    def make_step(self, run: Any, train: CloudSet) -> Step:
        def step(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            error = model(batch["xyz"], batch["feats"])[:, 0].float() - height_of(batch["xyz"])
            return error.square().mean(), error.detach().abs().sum()

        return step

    def evaluate(self, module: nn.Module, clouds: CloudSet, run: Any, fabric: Fabric, votes: int = 1) -> Evaluation:
        def forward(model: nn.Module, batch: Batch) -> tuple[Tensor]:
            batch = take_points(batch, run.data.num_points)
            return ((model(batch["xyz"], batch["feats"])[:, 0].float() - height_of(batch["xyz"])).abs(),)

        (error,) = predict_all(module, clouds, run.train.eval_batch_size, forward, fabric)
        return HeightEvaluation(float(error.mean()))


def main(argv: Sequence[str]) -> Any:
    """Train, test or predict, as the first word says."""
    verb, *rest = argv or [""]
    if verb == "predict":
        print(*load_run(rest[0]).predict(rest[1:]), sep="\n")
        return None
    run = {"train": train, "test": test}.get(verb)
    if run is None:
        raise InputError(f"train, test or predict, not '{verb}': see the first lines of this file")
    return run(HeightRegression(), __doc__, rest)


if __name__ == "__main__":
    run_program(lambda: main(sys.argv[1:]))
