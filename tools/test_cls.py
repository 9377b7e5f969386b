"""Evaluate a classifier on its test set: python tools/test_cls.py [RUN] [--votes 10] [--corrupted]"""

from collections.abc import Sequence
from typing import Any

from bixt3d.cli.program import run_program
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.corrupted import evaluate_corrupted
from bixt3d.tasks.testing import Way, test


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Evaluate a run and write its files anew; returns what result.json holds."""
    words = "score corrupted clouds too: seven corruptions, five levels of each, after ModelNet-C"
    return test(Classification(), __doc__, argv, Way("corrupted", words, "corrupted too", evaluate_corrupted))


if __name__ == "__main__":
    run_program(main)
