"""Train a classifier of images: python tools/train_imgcls.py --cfg cfgs/imagenet_ti16.yaml"""

from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.program import run_program
from bixt3d.tasks.image_classification import ImageClassification
from bixt3d.tasks.training import train


def main(argv: Sequence[str] | None = None) -> Path:
    """Train one run, or one for each seed; returns the folder."""
    return train(ImageClassification(), __doc__, argv)


if __name__ == "__main__":
    run_program(main)
