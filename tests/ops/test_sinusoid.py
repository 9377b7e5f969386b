"""Sinusoidal positional encoding."""

import math

import pytest
import torch

from bixt3d.ops import sinusoid
from bixt3d.types import InputError


def encode_slowly(pos: list[float], num_features: int, temperature: float, scale: float) -> list[float]:
    """Compute the formula of the docstring, feature by feature."""
    encoded = []
    for p in pos:
        for i in range(num_features):
            angle = scale * p / temperature ** (2 * (i // 2) / num_features)
            encoded.append(math.sin(angle) if i % 2 == 0 else math.cos(angle))
    return encoded


@pytest.mark.parametrize("num_axes", [1, 2, 3, 6])
@pytest.mark.parametrize("num_features, temperature, scale", [(32, 10000.0, 2 * math.pi), (4, 10.0, 3.0)])
def test_features_follow_the_formula(num_axes: int, num_features: int, temperature: float, scale: float):
    pos = torch.randn(2, 5, num_axes)
    expected = [[encode_slowly(p, num_features, temperature, scale) for p in cloud] for cloud in pos.tolist()]
    found = sinusoid(pos, num_features, temperature, scale)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


def test_four_features_of_one_axis_by_hand():
    found = sinusoid(torch.tensor([0.25]), num_features=4, temperature=4.0)
    # frequencies 2 pi and pi: a quarter of a turn, and an eighth
    torch.testing.assert_close(found, torch.tensor([1, 0, math.sqrt(0.5), math.sqrt(0.5)]))


def test_the_grid_of_an_image_is_encoded_as_the_authors_do():
    """Positions are 1..n, divided by n + 1e-6, times 2 pi; even features are sines, odd ones cosines; y before x.

    Written as in the authors' code: a division by ``temperature ** (2 * (i // 2) / 32)``, then ``stack(...).flatten``.
    """
    num_rows, num_columns = 3, 5
    ones = torch.ones(1, num_rows, num_columns)
    y, x = ones.cumsum(1), ones.cumsum(2)
    y, x = y / (y[:, -1:] + 1e-6) * 2 * math.pi, x / (x[:, :, -1:] + 1e-6) * 2 * math.pi
    i = torch.arange(32)
    divisor = 10000.0 ** (2 * (i // 2) / 32)
    y, x = y[..., None] / divisor, x[..., None] / divisor
    y, x = (torch.stack([a[..., 0::2].sin(), a[..., 1::2].cos()], 4).flatten(3) for a in (y, x))
    expected = torch.cat([y, x], 3)

    rows, columns = (torch.arange(1.0, n + 1) / (n + 1e-6) for n in (num_rows, num_columns))
    pos = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)[None]
    torch.testing.assert_close(sinusoid(pos), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_features", [0, 1, 5, -2])
def test_an_odd_number_of_features_is_an_error(num_features: int):
    with pytest.raises(InputError, match="even number of features"):
        sinusoid(torch.zeros(1, 1, 3), num_features)


def test_features_are_float32_under_autocast_and_for_positions_of_any_precision():
    pos = torch.randn(1, 50, 3)
    expected = sinusoid(pos)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sinusoid(pos), expected)
    assert sinusoid(pos.bfloat16()).dtype == sinusoid(pos.double()).dtype == torch.float32
