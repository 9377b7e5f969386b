"""Train a part segmenter of point clouds: python tools/train_partseg.py --cfg cfgs/shapenetpart_encdec.yaml"""

from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.program import run_program
from bixt3d.tasks.part_segmentation import PartSegmentation
from bixt3d.tasks.training import train


def main(argv: Sequence[str] | None = None) -> Path:
    """Train one run, or one for each seed; returns the folder."""
    return train(PartSegmentation(), __doc__, argv)


if __name__ == "__main__":
    run_program(main)
