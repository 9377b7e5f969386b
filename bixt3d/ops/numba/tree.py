"""Numba kernel that builds a k-d tree: it splits a cloud at medians into blocks of nearby points with bounding boxes.

All functions that the kernel calls are in this file, because Numba's cache checks no other.
"""

from typing import no_type_check

import numpy as np

from bixt3d.ops.numba.jit import helper, kernel
from bixt3d.ops.numba.kernels import sample_cloud

SAMPLING_BLOCK, SEARCH_BLOCK = 256, 32
"""Points in a block: the fastest of 16 to 256, measured."""


@helper
@no_type_check
def partition(keys, order, first, last, middle):
    """Quickselect: reorder keys, and ``order`` with them, so that ``keys[middle]`` is at its sorted position."""
    while last - first > 1:
        one, other, third = keys[first], keys[(first + last) // 2], keys[last - 1]
        pivot = max(min(one, other), min(max(one, other), third))
        for equal in range(2):  # first move keys below the pivot to the front, then equal keys
            split = first
            for i in range(first, last):
                key, row = keys[i], order[i]
                keys[i], order[i] = keys[split], order[split]
                keys[split], order[split] = key, row
                split += key == pivot if equal else key < pivot
            if middle < split:
                break
            first = split
        if middle < split:
            if equal:
                return
            last = split


@helper
@no_type_check
def enclose(points, rows, box):
    """Write the bounding box (2, P) of some points: lowest and highest coordinates."""
    for axis in range(points.shape[1]):
        low = high = points[rows[0], axis]
        for row in rows:
            low, high = min(low, points[row, axis]), max(high, points[row, axis])
        box[0, axis], box[1, axis] = low, high


@helper
@no_type_check
def widest_axis(box):
    """Return the longest axis of a box."""
    widest = 0
    for axis in range(box.shape[1]):
        if box[1, axis] - box[0, axis] > box[1, widest] - box[0, widest]:
            widest = axis
    return widest


@helper
@no_type_check
def copy_box(box, other):
    """Copy a box. As an array assignment it would take Numba a second to compile."""
    for side in range(2):
        for axis in range(box.shape[1]):
            other[side, axis] = box[side, axis]


@kernel
@no_type_check
def split_cloud(points, block):
    """Build a balanced k-d tree of a cloud (N, P), whose node n has the children 2n and 2n + 1.

    Returns cells (blocks, P, block): coordinates, the last block padded with its last point; order (N): index of each
    point; boxes (nodes, 2, P): bounding boxes, tight in leaves; leaves (blocks): node of each block.
    """
    size, num_axes = points.shape
    num_blocks = (size + block - 1) // block
    num_nodes = 2
    while num_nodes < 2 * num_blocks:
        num_nodes *= 2
    cells = np.empty((num_blocks, num_axes, block), np.float32)
    boxes = np.empty((num_nodes, 2, num_axes), np.float32)
    leaves = np.empty(num_blocks, np.int64)
    order, keys = np.arange(size), np.empty(size, np.float32)
    enclose(points, order, boxes[1])
    todo, count = np.empty((64, 3), np.int64), 1
    todo[0, 0], todo[0, 1], todo[0, 2] = 1, 0, num_blocks
    while count > 0:
        count -= 1
        node, low, high = todo[count, 0], todo[count, 1], todo[count, 2]
        first, last = low * block, min(high * block, size)
        if high - low == 1:
            leaves[low] = node
            enclose(points, order[first:last], boxes[node])
            for axis in range(num_axes):
                for i in range(block):
                    cells[low, axis, i] = points[order[min(first + i, last - 1)], axis]
            continue
        axis = widest_axis(boxes[node])
        for i in range(first, last):
            keys[i] = points[order[i], axis]
        middle = (low + high) // 2
        partition(keys, order, first, last, middle * block)
        for child in (2 * node, 2 * node + 1):
            copy_box(boxes[node], boxes[child])
        boxes[2 * node, 1, axis] = boxes[2 * node + 1, 0, axis] = keys[middle * block]
        todo[count, 0], todo[count, 1], todo[count, 2] = 2 * node, low, middle
        todo[count + 1, 0], todo[count + 1, 1], todo[count + 1, 2] = 2 * node + 1, middle, high
        count += 2
    return cells, order, boxes, leaves


def sample_by_tree(cloud: np.ndarray, index: np.ndarray) -> None:
    """Farthest point sampling of a cloud (N, P), by a tree of its own: write the indices."""
    sample_cloud(cloud, *split_cloud(cloud, SAMPLING_BLOCK), index)
