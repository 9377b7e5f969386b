"""A cloud as people have it: any number of points, positions in double precision, features by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.upright import Up


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one object.

    Args:
        xyz: positions, in the units and the frame of whoever gives them.
        columns: features by name, each with a row for each point: ``normal`` of length 1 (a few may be 0), ``rgb`` from
            0 to 1, 0 to 255 or 0 to 65535, and any other.
        name: what messages call it.
        from_mesh: the points were spread over a surface, and the normals are those of its faces.
        up: what is up, where the format of its file says so.
    """

    xyz: Float[np.ndarray, "N 3"]
    columns: Mapping[str, Shaped[np.ndarray, "N _"]] = field(default_factory=dict)
    name: str = "the input"
    from_mesh: bool = False
    up: Up | None = None

    def __len__(self) -> int:
        return len(self.xyz)
