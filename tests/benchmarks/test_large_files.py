"""Large LAZ files made of copies of a tile: all points, side by side."""

import laspy
import numpy as np
from large_files import write_copies
from scene_runs import write_survey


def test_copies_of_a_tile_lie_side_by_side(tmp_path):
    tile = laspy.read(write_survey(tmp_path / "tile.laz", 48.0))
    total = write_copies(tmp_path / "tile.laz", tmp_path / "large.laz", int(2.5 * len(tile.points)))
    large = laspy.read(tmp_path / "large.laz")
    assert total == len(large.points) == 3 * len(tile.points)
    first, second, third = np.split(np.asarray(large.xyz), 3)
    np.testing.assert_array_equal(first, tile.xyz)
    assert second[:, 0].min() > first[:, 0].max() and third[:, 1].min() > first[:, 1].max()
    np.testing.assert_allclose(np.ptp(third, axis=0), np.ptp(first, axis=0), atol=1e-9)
    assert np.array_equal(large.intensity, np.tile(tile.intensity, 3))
