"""The evaluation of a part segmenter on one set: scores of categories and parts, and a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.tasks.calibration import calibration_facts, calibration_text
from bixt3d.tasks.part_metrics import CONVENTION, PART_CONVENTION, POINTMLP_CONVENTION, PartScores
from bixt3d.tasks.scores import Evaluation


@dataclass
class PartEvaluation(Evaluation):
    """The parts predicted for the scored points of every cloud of a set, and their scores."""

    xyz: list[Float[Tensor, "_ 3"]]
    predicted: list[Int[Tensor, " _"]]
    truth: list[Int[Tensor, " _"]]
    scores: PartScores
    part_names: Sequence[str]
    class_parts: Mapping[str, Sequence[int]]
    calibration: Float[Tensor, "3 15"]
    loss: float | None = None  # None for points that are not in the model's input

    def row(self) -> dict[str, float]:
        scores = self.scores
        row = {"instance_miou": scores.instance_miou, "class_miou": scores.class_miou, "accuracy": scores.accuracy}
        return row if self.loss is None else row | {"loss": self.loss}

    def facts(self) -> dict[str, Any]:
        scores = self.scores
        return {
            "convention": CONVENTION,
            "instance_miou": scores.instance_miou,
            "class_miou": scores.class_miou,
            "accuracy": scores.accuracy,
            "per_category": scores.per_category,
            "part_convention": PART_CONVENTION,
            "per_part": self.per_part(),
            "pointmlp": {
                "convention": POINTMLP_CONVENTION,
                "instance_miou": scores.pointmlp_instance_miou,
                "class_miou": scores.pointmlp_class_miou,
            },
            **calibration_facts(self.calibration),
        }

    def per_part(self) -> dict[str, dict[str, float | None]]:
        """Return the IoU of every part of each category that occurs; None for one in neither truth nor prediction."""
        return {
            category: {
                self.part_names[part].removeprefix(f"{category}/"): None if np.isnan(iou) else float(iou)
                for part in self.class_parts[category]
                for iou in [self.scores.part_iou[category][part]]
            }
            for category in self.scores.per_category
        }

    def text(self) -> str:
        scores, lines = self.scores, []
        for category, parts in self.per_part().items():
            lines.append((category, f"{scores.per_category[category]:8.2%}", ""))
            lines += [(f"  {name}", "", "       -" if iou is None else f"{iou:8.2%}") for name, iou in parts.items()]
        width = max(len("category"), *(len(name) for name, *_ in lines))
        return "\n".join(
            [
                f"{'category':{width}}     mIoU  part IoU",
                *(f"{name:{width}} {miou:8}  {iou}".rstrip() for name, miou, iou in lines),
                f"instance mIoU {scores.instance_miou:.2%}, class mIoU {scores.class_miou:.2%} ({CONVENTION})",
                f"instance mIoU {scores.pointmlp_instance_miou:.2%}, class mIoU {scores.pointmlp_class_miou:.2%} "
                f"({POINTMLP_CONVENTION})",
                f"part IoU: {PART_CONVENTION}",
                f"point accuracy {scores.accuracy:.2%}",
                calibration_text(self.calibration),
            ]
        )
