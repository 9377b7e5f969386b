"""Load the checkpoints that PointMLP's authors released: rename their parameters, keep their values."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bixt3d.models.baselines.pointmlp import PointMLP
from bixt3d.types import InputError

OUR_NAMES = (
    (r"^module\.", ""),  # saved from DataParallel
    (r"^embedding\.net\.", "embedding."),
    (r"^local_grouper_list\.(\d+)\.affine_alpha$", r"stages.\1.group.scale"),
    (r"^local_grouper_list\.(\d+)\.affine_beta$", r"stages.\1.group.shift"),
    (r"^pre_blocks_list\.(\d+)\.transfer\.net\.0\.", r"stages.\1.group.linear."),
    (r"^pre_blocks_list\.(\d+)\.transfer\.net\.1\.", r"stages.\1.norm."),
    (r"^pre_blocks_list\.(\d+)\.operation\.(\d+)\.", r"stages.\1.pre.\2."),
    (r"^pos_blocks_list\.(\d+)\.operation\.(\d+)\.", r"stages.\1.post.\2."),
    (r"\.net1\.([01])\.", r".inner.\1."),
    (r"\.net2\.0\.", ".inner.3."),
    (r"\.net2\.1\.", ".inner.4."),
    (r"^classifier\.", "head."),
)
"""Patterns of the authors' parameter names and our names for them, applied in this order."""

MAX_NAMES = 12
"""The most names of a kind that an error lists; the rest is counted."""


def load_official_pointmlp(model: PointMLP, checkpoint: Mapping[str, Any]) -> None:
    """Load the parameters and running statistics of a released checkpoint into a model of the same size.

    ``checkpoint``: the loaded file, a dict with the state_dict under ``net``, or the state_dict itself. Raises
    InputError, and leaves the model unchanged, if a parameter is missing, unexpected or of another shape.
    """
    theirs = {our_name(name): (name, _our_layout(value)) for name, value in checkpoint.get("net", checkpoint).items()}
    ours = model.state_dict()
    problems = {
        "missing": [name for name in ours if name not in theirs],
        "unexpected": [name for new, (name, _) in theirs.items() if new not in ours],
        "of another shape": [
            f"{name} {_shape(value)} for {_shape(ours[new])}"
            for new, (name, value) in theirs.items()
            if new in ours and _shape(value) != _shape(ours[new])
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {_list(names)}" for kind, names in problems.items() if names)
        raise InputError(f"the checkpoint does not fit this {type(model).__name__}: {listed}")
    model.load_state_dict({new: value for new, (_, value) in theirs.items()})


def our_name(name: str) -> str:
    """Return our name of a parameter of the released code; an unknown name is returned unchanged."""
    for pattern, replacement in OUR_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _our_layout(value: Any) -> Any:
    """Drop the axis of a convolution with kernel 1, and the leading axes of an affine vector (1, 1, 1, C)."""
    if not isinstance(value, Tensor) or value.ndim < 3:
        return value
    return value.squeeze(-1) if value.ndim == 3 else value.squeeze((0, 1, 2))


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _list(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
