"""Pairs of points at borders of blocks, and in the middle of blocks."""

import numpy as np
from seams import at_borders, in_middles

from bixt3d.datasets.scenes.blocks import Block


def test_pairs_are_found_at_borders_and_in_the_middle_of_each_block():
    x = np.arange(16) + 0.5
    xyz = np.column_stack([x, np.zeros(16), np.zeros(16)])
    blocks = [Block(high=(8.0, np.inf)), Block(low=(8.0, -np.inf))]
    number = np.stack([block.holds(xyz) for block in blocks]).argmax(0)
    assert number.tolist() == [0] * 8 + [1] * 8
    assert at_borders(xyz, blocks, number, 1.2).tolist() == [[7, 8]]
    assert sorted(map(tuple, in_middles(xyz, number, 1.2))) == [(3, 4), (11, 12)]
