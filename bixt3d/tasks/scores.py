"""What a model was worth: figures that know which way is better."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """A figure that sums up a run.

    Args:
        column: its column in metrics.csv, without the name of the set.
        more_is_better: an accuracy, not an error.
        number_format: how its value is written for people.
    """

    column: str
    more_is_better: bool = True
    number_format: str = ".2%"


class Evaluation(ABC):
    """What a model was worth on one set."""

    @abstractmethod
    def row(self) -> dict[str, float]:
        """Return the columns of metrics.csv, without the name of the set."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what result.json says of it."""

    def text(self) -> str:
        """Return a table for people."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in self.facts().items())
