"""Self-test of the Triton kernels of farthest_points and knn, once per device, before `auto` takes them.

They were developed without a GPU. If they fail on a device, `auto` takes a slower backend, not a wrong result.
"""

import warnings

import torch

from bixt3d.ops import reference
from bixt3d.ops.triton import farthest_points, grid_knn, knn

_PASSED: dict[torch.device, bool] = {}


def points_pass(device: torch.device) -> bool:
    """Return whether the kernels return the indices of the reference on this device; warn if they do not.

    The test cannot run under torch.compile or CUDA graph capture: False then, unless the device passed before.
    """
    if device not in _PASSED:
        if torch.compiler.is_compiling() or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
            return False
        _PASSED[device] = (reason := _try_points(device)) is None
        if reason:
            warnings.warn(
                f"Triton kernels of points fail their test on {device}, a slower backend is used: {reason}",
                RuntimeWarning,
                stacklevel=2,
            )
    return _PASSED[device]


@torch.no_grad()
def _try_points(device: torch.device) -> str | None:
    """Return why the kernels fail on a device, or None."""
    generator = torch.Generator().manual_seed(0)
    on_a_grid = torch.randint(6, (2, 300, 3), generator=generator).to(device, torch.float32)  # full of ties
    spread = torch.randn(1, 17_000, 3, generator=generator).to(device)  # too many for one program
    try:
        for points, num_points in ((on_a_grid, 60), (spread, 5)):
            if not farthest_points.farthest_points(points, num_points).equal(
                reference.farthest_points(points, num_points)
            ):
                return f"of {points.shape[1]} points they choose others than the reference"
            queries = points[:, :50]
            neighbors = reference.knn(queries, points, 24)
            if not all(search(queries, points, 24).equal(neighbors) for search in (knn.knn, grid_knn.knn)):
                return f"among {points.shape[1]} points they find other neighbors than the reference"
    except Exception as error:  # any error of Triton's compiler or of the driver
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return None
