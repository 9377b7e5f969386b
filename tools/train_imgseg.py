"""Train a segmenter of images: python tools/train_imgseg.py --cfg cfgs/ade20k_linear_ti16.yaml"""

from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.program import run_program
from bixt3d.tasks.image_segmentation import ImageSegmentation
from bixt3d.tasks.training import train


def main(argv: Sequence[str] | None = None) -> Path:
    """Train one run, or one for each seed; returns the folder."""
    return train(ImageSegmentation(), __doc__, argv)


if __name__ == "__main__":
    run_program(main)
