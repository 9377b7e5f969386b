"""Scores that have a direction (higher or lower is better), and the evaluation of a model on one set."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """A headline metric of a run, such as accuracy.

    Args:
        column: its column in metrics.csv, without the name of the set (``test_`` or ``val_``).
        more_is_better: whether higher is better: true for an accuracy, false for an error.
        number_format: Python format of its value in messages and reports.
    """

    column: str
    more_is_better: bool = True
    number_format: str = ".2%"


class Evaluation(ABC):
    """The evaluation of a model on one set: its metrics, and what its pictures need."""

    @abstractmethod
    def row(self) -> dict[str, float]:
        """Return the columns of metrics.csv, without the name of the set."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return the entries of result.json."""

    def text(self) -> str:
        """Return a table for the terminal."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in self.facts().items())
