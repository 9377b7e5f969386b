"""Before `auto` takes Triton's kernels of points on a device, they are tried there once, against the definition.

No GPU has run them where they were written; whatever is wrong with them on one, a person gets a slower form, not a
wrong result.
"""

import warnings

import torch

from bixt3d.ops import reference
from bixt3d.ops.triton import farthest_points, knn

_PASSED: dict[torch.device, bool] = {}


def points_pass(device: torch.device) -> bool:
    """Say whether the kernels choose on this device what the definition does; warn if they do not.

    Nothing can be tried while a compiler looks on or a CUDA graph is recorded: False then, if it was not before.
    """
    if device not in _PASSED:
        if torch.compiler.is_compiling() or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
            return False
        _PASSED[device] = (reason := _try_points(device)) is None
        if reason:
            warnings.warn(
                f"Triton's kernels of points cannot be trusted on {device}, slower forms are taken: {reason}",
                RuntimeWarning,
                stacklevel=2,
            )
    return _PASSED[device]


@torch.no_grad()
def _try_points(device: torch.device) -> str | None:
    """Return what is wrong with the kernels on a device, or None."""
    generator = torch.Generator().manual_seed(0)
    on_a_grid = torch.randint(6, (2, 300, 3), generator=generator).to(device, torch.float32)  # full of ties
    spread = torch.randn(1, 17_000, 3, generator=generator).to(device)  # more than a program holds
    try:
        for points, num_points in ((on_a_grid, 60), (spread, 5)):
            if not farthest_points.farthest_points(points, num_points).equal(
                reference.farthest_points(points, num_points)
            ):
                return f"of {points.shape[1]} points they choose others than the definition does"
            queries = points[:, :50]
            if not knn.knn(queries, points, 24).equal(reference.knn(queries, points, 24)):
                return f"among {points.shape[1]} points they find other neighbors than the definition does"
    except Exception as error:  # whatever Triton's compiler or the driver may say
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return None
