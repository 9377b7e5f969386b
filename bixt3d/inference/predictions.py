"""What trained models answer, and the refusal of answers that are no numbers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.types import InputError


class Answer(ABC):
    """What a trained model says of one cloud or image, of any task.

    ``notes``: what was guessed, repeated, left out or not read, each in a few words.
    """

    notes: tuple[str, ...] = ()

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""

    def table(self, top: int) -> list[str]:
        """Return the lines that people read, of the ``top`` likeliest where there are many."""
        return [f"  {name}: {value}" for name, value in self.facts().items()]


def percent_lines(shares: Mapping[str, float]) -> list[str]:
    """Return a line for each name with its share."""
    return [f"{share:9.1%}  {name}" for name, share in shares.items()]


class ClassAnswer(Answer):
    """What a classifier says: ``name``, ``confidence``, and ``probabilities`` of all classes, highest first."""

    name: str
    confidence: float
    probabilities: dict[str, float]

    def facts(self) -> dict[str, Any]:
        return {"class": self.name, "confidence": self.confidence, "probabilities": self.probabilities}

    def table(self, top: int) -> list[str]:
        return percent_lines(dict(list(self.probabilities.items())[:top]))


@dataclass(frozen=True)
class Prediction(ClassAnswer):
    """What a classifier says of one cloud: the class, how sure, and the probability of every class, highest first.

    ``notes``: what was guessed, repeated, left out or not read, each in a few words.
    """

    name: str
    confidence: float
    probabilities: dict[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PartPrediction(Answer):
    """What a part segmenter says of one cloud: ``part_names[parts[i]]`` is the part of its point i.

    Args:
        category: the category whose parts were chosen from.
        parts: the part of each point, as a place in ``part_names``.
        part_names: the parts of all categories.
        shares: what share of the points each part of the category has, highest first.
        counts: how many points that is.
        confidence: the probability of each point's part among those of the category.
        own_parts: the parts of the category.
        probabilities: those of all ``own_parts`` at each point, which sum to 1, where they were asked for.
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
    """Raise InputError for what is no answer: NaN or infinity where a model gives numbers."""
    if not torch.isfinite(logits).all():
        raise InputError(
            f"the model's answer to {name} is not finite: its weights are damaged, or its training went wrong, so take "
            "another checkpoint"
        )
