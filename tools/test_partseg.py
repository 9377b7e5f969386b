"""Evaluate a part segmenter on its test set: python tools/test_partseg.py [RUN] [--votes 10] [--full]"""

from collections.abc import Sequence
from typing import Any

from bixt3d.cli.program import run_program
from bixt3d.tasks.part_segmentation import PartSegmentation, evaluate_fully
from bixt3d.tasks.testing import Way, test


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Evaluate a run and write its files anew; returns what result.json holds."""
    words = "score every original point, not only those that the model sees"
    return test(PartSegmentation(), __doc__, argv, Way("full", words, "every point", evaluate_fully))


if __name__ == "__main__":
    run_program(main)
