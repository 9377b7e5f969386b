"""Moments and maxima over neighbors on a CPU with Numba kernels: one thread per cloud, neighbors read in place."""

from collections.abc import Callable
from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from bixt3d.ops.numba.jit import kernel
from bixt3d.ops.numba.threads import run_in_threads

# not custom_op: its first call imports torch's compiler, which takes a second
define = torch.library.define
define("bixt3d::neighbor_moments_cpu", "(Tensor values, Tensor offsets, Tensor neighbor_index) -> (Tensor, Tensor)")
define(
    "bixt3d::neighbor_moments_backward_cpu",
    "(Tensor first, Tensor second, Tensor values, Tensor offsets, Tensor neighbor_index) -> (Tensor, Tensor)",
)
define("bixt3d::neighbor_max_cpu", "(Tensor values, Tensor neighbor_index) -> (Tensor, Tensor)")
define("bixt3d::neighbor_max_backward_cpu", "(Tensor grad, Tensor winner, int num_points) -> Tensor")


@torch.library.impl("bixt3d::neighbor_moments_cpu", "CPU")
def _moments(values: Tensor, offsets: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums (B, D) of ``value + offset`` over all (group, neighbor) pairs, and of its squares."""
    _check(neighbor_index, values.shape[1])
    sums, squares = (torch.zeros(len(values), values.shape[2], dtype=torch.float64) for _ in range(2))
    _for_each_cloud(add_moments, values, offsets, neighbor_index, sums, squares)
    return sums, squares


@torch.library.register_fake("bixt3d::neighbor_moments_cpu")
def _(values, offsets, neighbor_index):
    return tuple(values.new_empty(len(values), values.shape[2], dtype=torch.float64) for _ in range(2))


@torch.library.impl("bixt3d::neighbor_moments_backward_cpu", "CPU")
def _moments_backward(
    first: Tensor, second: Tensor, values: Tensor, offsets: Tensor, neighbor_index: Tensor
) -> tuple[Tensor, Tensor]:
    """Return gradients of values and offsets: sums of ``first + second * (value + offset)`` over pairs."""
    values_grad, offsets_grad = values.new_zeros(values.shape), offsets.new_zeros(offsets.shape)
    _for_each_cloud(add_moment_gradients, first, second, values, offsets, neighbor_index, values_grad, offsets_grad)
    return values_grad, offsets_grad


@torch.library.register_fake("bixt3d::neighbor_moments_backward_cpu")
def _(first, second, values, offsets, neighbor_index):
    return values.new_empty(values.shape), offsets.new_empty(offsets.shape)


@torch.library.impl("bixt3d::neighbor_max_cpu", "CPU")
def _max(values: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum over neighbors (B, G, D), and the index of the point that has it, as int32."""
    _check(neighbor_index, values.shape[1])
    largest, winner = _empty_maxima(values, neighbor_index)
    _for_each_cloud(find_largest, values, neighbor_index, largest, winner)
    return largest, winner


@torch.library.register_fake("bixt3d::neighbor_max_cpu")
def _empty_maxima(values, neighbor_index):
    largest = values.new_empty(*neighbor_index.shape[:2], values.shape[2])
    return largest, torch.empty_like(largest, dtype=torch.int32)


@torch.library.impl("bixt3d::neighbor_max_backward_cpu", "CPU")
def _max_backward(grad: Tensor, winner: Tensor, num_points: int) -> Tensor:
    """Return the gradient (B, N, D) of the values: a point gets that of each maximum it has, in order of groups."""
    grads = grad.new_zeros(len(grad), num_points, grad.shape[2])
    _for_each_cloud(add_max_gradients, grad, winner, grads)
    return grads


@torch.library.register_fake("bixt3d::neighbor_max_backward_cpu")
def _(grad, winner, num_points):
    return grad.new_empty(len(grad), num_points, grad.shape[2])


neighbor_moments = torch.ops.bixt3d.neighbor_moments_cpu
neighbor_moments_backward = torch.ops.bixt3d.neighbor_moments_backward_cpu
neighbor_max = torch.ops.bixt3d.neighbor_max_cpu
neighbor_max_backward = torch.ops.bixt3d.neighbor_max_backward_cpu


def _check(neighbor_index: Tensor, num_points: int) -> None:
    """Raise IndexError for an index out of range: the kernels do not check bounds."""
    if neighbor_index.shape[2] < 1:
        raise IndexError("a group needs at least 1 neighbor")
    if neighbor_index.numel():
        low, high = map(int, neighbor_index.aminmax())
        if low < 0 or high >= num_points:
            raise IndexError(f"neighbor_index goes from {low} to {high} in clouds of {num_points} points")


def _for_each_cloud(function: Callable, *tensors: Tensor) -> None:
    """Call a kernel for each cloud, with slices of the tensors; outputs must be contiguous."""
    run_in_threads(function, *(tensor.contiguous().numpy() for tensor in tensors))


@kernel
@no_type_check
def add_moments(values, offsets, neighbor_index, sums, squares):
    """Sum values and squares of one cloud: ``value + offset`` in the input dtype, sums in float64."""
    for group in range(len(neighbor_index)):
        offset = offsets[group]
        for neighbor in neighbor_index[group]:
            row = values[neighbor]
            for channel in range(len(row)):
                value = np.float64(row[channel] + offset[channel])
                sums[channel] += value
                squares[channel] += value * value


@kernel
@no_type_check
def add_moment_gradients(first, second, values, offsets, neighbor_index, values_grad, offsets_grad):
    """Add the gradient of each (group, neighbor) pair to those of its point and its group, in order of groups."""
    for group in range(len(neighbor_index)):
        offset, offset_grad = offsets[group], offsets_grad[group]
        for neighbor in neighbor_index[group]:
            row, row_grad = values[neighbor], values_grad[neighbor]
            for channel in range(len(row)):
                grad = first[channel] + second[channel] * (row[channel] + offset[channel])
                row_grad[channel] += grad
                offset_grad[channel] += grad


@kernel
@no_type_check
def find_largest(values, neighbor_index, largest, winner):
    """Write the maxima of one cloud, and the first neighbors that have them. NaN counts as largest, as in torch."""
    for group in range(len(neighbor_index)):
        best, place = largest[group], winner[group]
        best[:] = values[neighbor_index[group, 0]]
        place[:] = neighbor_index[group, 0]
        for neighbor in neighbor_index[group, 1:]:
            row, index = values[neighbor], np.int32(neighbor)
            for channel in range(len(row)):
                old, new = best[channel], row[channel]
                is_larger = (new > old) | (new != new)
                best[channel] = new if is_larger else old
                place[channel] = index if is_larger else place[channel]


@kernel
@no_type_check
def add_max_gradients(grad, winner, grads):
    """Add the gradients of one cloud's maxima to those of the points that have them."""
    for group in range(len(grad)):
        for channel in range(grad.shape[1]):
            grads[winner[group, channel], channel] += grad[group, channel]
