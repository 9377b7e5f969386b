"""Numba kernels of farthest point sampling and kNN for one cloud: exact, with spatial pruning.

They read the k-d tree of `split_cloud`. Distances are computed as in the reference: float32, without fused
multiply-adds. Rounding is monotonic, so the computed distance of a box is never above that of a point inside: skipped
blocks cannot change the result. Distances are compared as integers: the bits of floats >= 0 sort like the floats. All
functions that a kernel calls are in this file, because Numba's cache checks no other.
"""

from typing import no_type_check

import numpy as np

from bixt3d.ops.numba.jit import helper, kernel

WIDTH = 16
"""The list of nearest points has a multiple of this length, so that it is updated by vector instructions alone."""

INFINITE = 0x7F800000
"""The bits of an infinite distance."""


@helper
@no_type_check
def measure(query, cells, place, distance):
    """Write the squared distances from a query to the points of block ``place``, in one pass for three axes."""
    if len(query) == 3:
        x, y, z = query[0], query[1], query[2]
        for i in range(len(distance)):
            dx, dy, dz = cells[place, 0, i] - x, cells[place, 1, i] - y, cells[place, 2, i] - z
            distance[i] = dx * dx + dy * dy + dz * dz
        return
    distance[:] = 0
    for axis in range(len(query)):
        for i in range(len(distance)):
            difference = cells[place, axis, i] - query[axis]
            distance[i] += difference * difference


@helper
@no_type_check
def measure_boxes(query, boxes, gap):
    """Write the squared distances from a query to boxes (2, P, boxes): lower bounds for the points inside."""
    gap[:] = 0
    for axis in range(len(query)):
        for i in range(len(gap)):
            outside = max(boxes[0, axis, i] - query[axis], query[axis] - boxes[1, axis, i])
            outside = max(outside, np.float32(0))
            gap[i] += outside * outside


@helper
@no_type_check
def measure_box(query, boxes, node):
    """Return the squared distance from a query to the box of a node."""
    zero = np.float32(0)
    if len(query) == 3:
        x, y, z = query[0], query[1], query[2]
        x = max(max(boxes[node, 0, 0] - x, x - boxes[node, 1, 0]), zero)
        y = max(max(boxes[node, 0, 1] - y, y - boxes[node, 1, 1]), zero)
        z = max(max(boxes[node, 0, 2] - z, z - boxes[node, 1, 2]), zero)
        return x * x + y * y + z * z
    gap = zero
    for axis in range(len(query)):
        outside = max(max(boxes[node, 0, axis] - query[axis], query[axis] - boxes[node, 1, axis]), zero)
        gap += outside * outside
    return gap


@helper
@no_type_check
def lower(nearest, distance):
    """Set ``nearest`` to the elementwise minimum of both, and return its largest value."""
    most = np.int32(-1)
    for i in range(len(nearest)):
        nearest[i] = min(nearest[i], distance[i])
        most = max(most, nearest[i])
    return most


@helper
@no_type_check
def lowest_index(nearest, order, most):
    """Return the lowest index of the points of a block whose distance is ``most``."""
    found = np.int64(1 << 62)
    for i in range(len(order)):
        if nearest[i] == most:
            found = min(found, order[i])
    return found


@helper
@no_type_check
def boxes_of(boxes, leaves):
    """Return the boxes (2, P, blocks) of the leaves."""
    tight = np.empty((2, boxes.shape[2], len(leaves)), np.float32)
    for side in range(2):
        for axis in range(boxes.shape[2]):
            for i in range(len(leaves)):
                tight[side, axis, i] = boxes[leaves[i], side, axis]
    return tight


@kernel
@no_type_check
def sample_cloud(points, cells, order, boxes, leaves, index):
    """Farthest point sampling of a cloud (N, P) and its tree: write the indices. Ties go to the lowest index."""
    num_blocks, _, block = cells.shape
    tight = boxes_of(boxes, leaves)
    nearest, farthest = np.full((num_blocks, block), INFINITE, np.int32), np.full(num_blocks, INFINITE, np.int32)
    gap, distance = np.empty(num_blocks, np.float32), np.empty(block, np.float32)
    gap_bits, distance_bits = gap.view(np.int32), distance.view(np.int32)
    last = 0
    for step in range(len(index)):
        index[step] = last
        measure_boxes(points[last], tight, gap)
        most = np.int32(-1)
        for i in range(num_blocks):
            if gap_bits[i] < farthest[i]:
                measure(points[last], cells, i, distance)
                farthest[i] = lower(nearest[i], distance_bits)
            most = max(most, farthest[i])
        last = len(points)
        for i in range(num_blocks):
            if farthest[i] == most:
                last = min(last, lowest_index(nearest[i], order[i * block : (i + 1) * block], most))


@helper
@no_type_check
def insert_block(keys, distance, order, first, last, near, place):
    """Insert the points of a block into the nearest so far; a key is the bits of the distance, then the index.

    ``keys`` descend, with -1 at the end; the farthest neighbor is at ``place``. No branch depends on the distances: a
    wrong prediction takes longer than an insertion. A key that is too large changes nothing up to ``place``.
    """
    bound, num_near = np.int32(keys[place] >> 32), 0
    for i in range(last - first):
        near[num_near] = i
        num_near += distance[i] <= bound
    for j in range(num_near):
        i = near[j]
        key = np.int64(distance[i]) << 32 | order[first + i]
        for slot in range(len(keys) - 1):
            keys[slot] = max(min(keys[slot], key), keys[slot + 1])


@kernel
@no_type_check
def search_cloud(queries, cells, order, boxes, leaves, index, farthest=INFINITE, start=0):
    """kNN of queries (G, P) in a k-d tree: write the indices, closest first, and -1 where there is no neighbor.

    ``farthest``: the largest squared distance of a neighbor, as the bits of a float; ``start``: the index of point 0.
    """
    num_blocks, num_axes, block = cells.shape
    num_neighbors = index.shape[1]
    width = (num_neighbors + WIDTH - 1) // WIDTH * WIDTH
    place = width - num_neighbors
    keys, query = np.empty(width + 1, np.int64), np.empty(num_axes, np.float32)
    distance, near = np.empty(block, np.float32), np.empty(block, np.int64)
    todo, gap = np.empty((64, 3), np.int64), np.empty(64, np.float32)
    gap_bits, distance_bits = gap.view(np.int32), distance.view(np.int32)
    for row in range(len(queries)):
        for axis in range(num_axes):
            query[axis] = queries[row, axis]
        keys[:width] = (farthest + 1 << 32) - 1
        keys[width] = -1
        todo[0, 0], todo[0, 1], todo[0, 2], gap[0], count = 1, 0, num_blocks, 0, 1
        while count > 0:
            count -= 1
            if gap_bits[count] > keys[place] >> 32:
                continue
            node, low, high = todo[count, 0], todo[count, 1], todo[count, 2]
            while high - low > 1:  # descend into the nearer half; the other goes on the stack
                middle = (low + high) // 2
                left, right = measure_box(query, boxes, 2 * node), measure_box(query, boxes, 2 * node + 1)
                is_right = left > right
                gap[count], todo[count, 0] = max(left, right), 2 * node + 1 - is_right
                todo[count, 1], todo[count, 2] = (low, middle) if is_right else (middle, high)
                node, low, high = 2 * node + is_right, middle if is_right else low, high if is_right else middle
                count += 1
            measure(query, cells, low, distance)
            first = low * block
            insert_block(keys, distance_bits, order, first, min(first + block, len(order)), near, place)
        for i in range(num_neighbors):
            found = keys[width - 1 - i] & 0xFFFFFFFF
            index[row, i] = -1 if found == 0xFFFFFFFF else found + start


@kernel
@no_type_check
def list_neighbors(queries, cells, order, boxes, leaves, most, farthest, start):
    """Return the number of neighbors of each query (G,), at most ``most``, and the indices of all, closest first.

    For large ``most``: sorts distances, where `search_cloud` inserts each into the list. Other arguments as there.
    """
    num_blocks, num_axes, block = cells.shape
    keys, query = np.empty(2 * most + block, np.int64), np.empty(num_axes, np.float32)
    distance, todo, gap = np.empty(block, np.float32), np.empty((64, 3), np.int64), np.empty(64, np.float32)
    gap_bits, distance_bits = gap.view(np.int32), distance.view(np.int32)
    counts, index, total = np.empty(len(queries), np.int64), np.empty(1024, np.int64), 0
    for row in range(len(queries)):
        query[:] = queries[row]
        bound, found = farthest, 0
        todo[0, 0], todo[0, 1], todo[0, 2], gap[0], count = 1, 0, num_blocks, 0, 1
        while count > 0:
            count -= 1
            if gap_bits[count] > bound:
                continue
            node, low, high = todo[count, 0], todo[count, 1], todo[count, 2]
            while high - low > 1:  # as in search_cloud, which is slower by a tenth if both call a function
                middle = (low + high) // 2
                left, right = measure_box(query, boxes, 2 * node), measure_box(query, boxes, 2 * node + 1)
                is_right = left > right
                gap[count], todo[count, 0] = max(left, right), 2 * node + 1 - is_right
                todo[count, 1], todo[count, 2] = (low, middle) if is_right else (middle, high)
                node, low, high = 2 * node + is_right, middle if is_right else low, high if is_right else middle
                count += 1
            measure(query, cells, low, distance)
            for i in range(min(block, len(order) - low * block)):
                keys[found] = np.int64(distance_bits[i]) << 32 | order[low * block + i]
                found += distance_bits[i] <= bound
            if found >= 2 * most:  # keep the nearest
                keys[:found].sort()
                bound, found = keys[most - 1] >> 32, most
        keys[:found].sort()
        counts[row] = min(found, most)
        if total + counts[row] > len(index):
            index = np.append(index, np.empty(len(index) + most, np.int64))
        index[total : total + counts[row]] = (keys[: counts[row]] & 0xFFFFFFFF) + start
        total += counts[row]
    return counts, index[:total]
