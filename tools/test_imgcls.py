"""Evaluate a classifier of images on its test set: python tools/test_imgcls.py [RUN]"""

from collections.abc import Sequence
from typing import Any

from bixt3d.cli.program import run_program
from bixt3d.tasks.image_classification import ImageClassification
from bixt3d.tasks.testing import test


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Evaluate a run and write its files anew; returns what result.json holds."""
    return test(ImageClassification(), __doc__, argv)


if __name__ == "__main__":
    run_program(main)
