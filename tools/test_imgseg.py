"""Evaluate a segmenter of images on its test set: python tools/test_imgseg.py [RUN]"""

from collections.abc import Sequence
from typing import Any

from bixt3d.cli.program import run_program
from bixt3d.tasks.image_segmentation import ImageSegmentation
from bixt3d.tasks.testing import test


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Evaluate a run and write its files anew; returns what result.json holds."""
    return test(ImageSegmentation(), __doc__, argv)


if __name__ == "__main__":
    run_program(main)
