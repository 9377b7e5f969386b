"""Your own task in one file: predict how tall a cloud is for its size, a number instead of a class.

    $ python examples/regression.py train --cfg examples/regression.yaml --train.epochs 1 --run_dir runs/height
    ...
    mean absolute error 0.7844
    report: runs/height/report.html
    $ python examples/regression.py test runs/height
    mean absolute error 0.7844
    ...

`PYTHONPATH=examples bixt3d predict FILE --checkpoint runs/height --trust` predicts: --trust imports the task's file.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn

from bixt3d import BasePrediction, Cloud, CloudPredictor, CloudSet, CloudSource, Evaluation, Run, Score, Task
from bixt3d.cli.program import run_program
from bixt3d.datasets import take_points
from bixt3d.engine.loop import Batch, Step, predict_all
from bixt3d.models.presets import MakeClassifier
from bixt3d.tasks.inputs import read_clouds
from bixt3d.tasks.testing import test
from bixt3d.tasks.training import train
from bixt3d.types import InputError


def height_error(model: nn.Module, batch: Batch) -> Tensor:
    """Return predicted minus true height of each cloud; the height is the extent along y."""
    height = batch["xyz"][..., 1].amax(1) - batch["xyz"][..., 1].amin(1)
    return model(batch["xyz"], batch["feats"])[:, 0].float() - height


@dataclass
class HeightEvaluation(Evaluation):
    """The errors of the heights of a set."""

    error: float

    def row(self) -> dict[str, float]:
        return {"error": self.error}

    def facts(self) -> dict[str, Any]:
        return {"mean_absolute_error": self.error}


@dataclass(frozen=True)
class Height(BasePrediction):
    """The height of a cloud, as a fraction of the radius of the sphere around it."""

    height: float
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        return {"height": self.height}


class HeightPredictor(CloudPredictor):
    """A predictor of heights."""

    def make_prediction(self, cloud: Cloud, logits: Tensor, up: Any) -> Height:
        return Height(float(logits), self._notes(cloud, up))


class HeightRegression(Task):
    """Return the height of a cloud."""

    name, program, example = "height regression", "height", "python examples/regression.py train --cfg FILE"
    headline = {"mean_absolute_error": Score("error", more_is_better=False, number_format=".4f")}
    data, model = CloudSource, MakeClassifier  # a classifier of one class: its logit is the number
    name_keys, train_column = ("outputs",), "train_error"

    def names(self, clouds: CloudSet) -> dict[str, Any]:
        return {"outputs": ["height"]}

    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        return HeightPredictor(model, **read_clouds(given, model, source))

    def command(self, verb: str) -> str:
        return f"python examples/regression.py {verb}"

    def make_step(self, run: Run, train: CloudSet) -> Step:
        def step(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            error = height_error(model, batch)
            return error.square().mean(), error.detach().abs().sum()

        return step

    def evaluate(self, module: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int = 1) -> Evaluation:
        def forward(model: nn.Module, batch: Batch) -> tuple[Tensor]:
            return (height_error(model, take_points(batch, run.data.num_points)).abs(),)

        error = predict_all(module, clouds, run.train.eval_batch_size, forward, fabric)[0]
        return HeightEvaluation(float(error.mean()))


def main(argv: Sequence[str]) -> Any:
    """Train or test, as the first argument says."""
    if argv[:1] not in (["train"], ["test"]):
        raise InputError("begin with train or test: see the first lines of this file")
    return (train if argv[0] == "train" else test)(HeightRegression(), __doc__, argv[1:])


if __name__ == "__main__":
    run_program(lambda: main(sys.argv[1:]))
