"""Predictions of trained models, and the check that they are finite."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.types import InputError


class BasePrediction(ABC):
    """Base class of predictions: the result for one cloud or image.

    ``notes``: what was guessed, repeated, left out or not read, each in a few words.
    """

    notes: tuple[str, ...] = ()

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return the entries of its line of JSON."""

    def table(self, top: int) -> list[str]:
        """Return its lines of text, with the ``top`` most probable classes only."""
        return [f"  {name}: {value}" for name, value in self.facts().items()]


def percent_lines(shares: Mapping[str, float]) -> list[str]:
    """Return a line for each name with its share in percent."""
    return [f"{share:9.1%}  {name}" for name, share in shares.items()]


class ClassPrediction(BasePrediction):
    """Base class of class predictions: ``name``, ``confidence``, ``probabilities`` of all classes, highest first."""

    name: str
    confidence: float
    probabilities: dict[str, float]

    def facts(self) -> dict[str, Any]:
        return {"class": self.name, "confidence": self.confidence, "probabilities": self.probabilities}

    def table(self, top: int) -> list[str]:
        return percent_lines(dict(list(self.probabilities.items())[:top]))


@dataclass(frozen=True)
class Prediction(ClassPrediction):
    """The predicted class of a cloud, its probability, and the probabilities of all classes, highest first.

    ``notes``: what was guessed, repeated, left out or not read, each in a few words.
    """

    name: str
    confidence: float
    probabilities: dict[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PartPrediction(BasePrediction):
    """The predicted part of every point of a cloud: ``part_names[parts[i]]`` for point i.

    Args:
        category: the category; all predicted parts are parts of it.
        parts: the part of each point, an index into ``part_names``; -1 for points without a position (NaN, infinite).
        part_names: names of the parts of all categories.
        shares: share of the points with a position for each part of the category, highest first.
        counts: number of points for each part of the category.
        confidence: probability of each point's part, among the parts of the category; NaN where there is none.
        own_parts: indices of the parts of the category.
        probabilities: those of all ``own_parts`` at each point, which sum to 1, or NaN; None unless requested.
        notes: what was guessed, repeated, left out or not read, each in a few words.
    """

    category: str
    parts: Int[Tensor, " N"]
    part_names: tuple[str, ...]
    shares: dict[str, float]
    counts: dict[str, int]
    confidence: Float[Tensor, " N"]
    own_parts: tuple[int, ...]
    probabilities: Float[Tensor, "N C"] | None = None
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        return {"category": self.category, "shares": self.shares, "counts": self.counts}

    def table(self, top: int) -> list[str]:
        return percent_lines({name.removeprefix(f"{self.category}/"): share for name, share in self.shares.items()})


def check_finite(logits: Float[Tensor, "..."], name: str) -> None:
    """Raise InputError if the model's output contains NaN or infinity. ``name``: of the input, for the message."""
    if not torch.isfinite(logits).all():
        raise InputError(
            f"the model's output for {name} is not finite: its weights are damaged, or its training diverged, so take "
            "another checkpoint"
        )
