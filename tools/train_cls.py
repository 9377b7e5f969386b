"""Train a classifier of point clouds: python tools/train_cls.py --cfg cfgs/modelnet40_grouping.yaml"""

from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.program import run_program
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.training import train


def main(argv: Sequence[str] | None = None) -> Path:
    """Train one run, or one for each seed; returns the folder."""
    return train(Classification(), __doc__, argv)


if __name__ == "__main__":
    run_program(main)
