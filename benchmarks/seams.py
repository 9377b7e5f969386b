"""Do the borders of blocks show in the labels of a large LAS or LAZ file? Compared with the labels of one pass.

    python benchmarks/seams.py FILE --checkpoint RUN --radius 0.75

Pairs of points within a radius that have different labels: pairs on both sides of a border of two blocks, and pairs on
both sides of lines through the middle of each block, where no border is. --block: most points of a block with its
margin. The whole file is read into memory.
"""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from bixt3d import load_run
from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.scenes.scene import from_origin


def pairs_across(xyz: np.ndarray, near: np.ndarray, side: np.ndarray, radius: float) -> np.ndarray:
    """Return the pairs of points, of the mask ``near``, within a radius and on different sides."""
    index = np.flatnonzero(near)
    pairs = index[KDTree(xyz[index]).query_pairs(radius, output_type="ndarray")]
    return pairs[side[pairs[:, 0]] != side[pairs[:, 1]]]


def at_borders(xyz: np.ndarray, blocks: list, number: np.ndarray, radius: float) -> np.ndarray:
    """Return the pairs on both sides of the borders of blocks; ``number``: the block of each point."""
    near = np.zeros(len(xyz), bool)
    for block in blocks:
        around = block.holds(xyz, radius)
        for axis in range(2):
            for edge in filter(math.isfinite, (block.low[axis], block.high[axis])):
                near |= around & (np.abs(xyz[:, axis] - edge) <= radius)
    return pairs_across(xyz, near, number, radius)


def in_middles(xyz: np.ndarray, number: np.ndarray, radius: float) -> np.ndarray:
    """Return the pairs on both sides of two lines through each block, which halve its points."""
    found = []
    for block in np.unique(number):
        own = number == block
        for axis in range(2):
            middle = np.median(xyz[own, axis])
            near = own & (np.abs(xyz[:, axis] - middle) <= radius)
            found.append(pairs_across(xyz, near, xyz[:, axis] >= middle, radius))
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--radius", type=float, required=True, help="in the units of the file")
    parser.add_argument("--block", type=int, help="points of a block with its margin")
    given = parser.parse_args()
    predictor = load_run(given.checkpoint)
    predictor.block = given.block or predictor.block
    with tempfile.TemporaryDirectory() as folder:
        found, parts = predictor.predict_las(given.file, Path(folder))
        blocks, in_blocks = list(parts.blocks), found.labels.numpy().copy()
    cloud = read_file(given.file)[0]
    xyz = from_origin(cloud.xyz, cloud.xyz.min(0))
    number = np.stack([block.holds(xyz) for block in blocks]).argmax(0)
    predictor.block = len(xyz)
    whole = predictor.predict(given.file).labels.numpy()
    print(f"{len(xyz):,} points, {len(blocks)} blocks, {(in_blocks != whole).sum():,} points with another label")
    print("| pairs of points | number | different labels, in blocks | in one pass |\n|---|---|---|---|")
    places = {
        "across borders": at_borders(xyz, blocks, number, given.radius),
        "across the middle of blocks": in_middles(xyz, number, given.radius),
    }
    for place, pairs in places.items():
        changes = [int((labels[pairs[:, 0]] != labels[pairs[:, 1]]).sum()) for labels in (in_blocks, whole)]
        shares = (f"{count} ({100 * count / max(1, len(pairs)):.3f} %)" for count in changes)
        print(f"| {place} | {len(pairs):,} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
