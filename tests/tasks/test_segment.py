"""Segmentation of images of any size by a model of fixed stride: padded, or by a sliding window."""

import pytest
import torch
from torch import Tensor

from bixt3d.inference.images import segment, window_places
from bixt3d.models import ImageSegmenter


class ByColor(ImageSegmenter):
    """Labels a pixel by its color alone, but reads only images whose sides are multiples of 4."""

    stride = 4

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image: Tensor) -> Tensor:
        assert not any(side % 4 for side in image.shape[-2:])
        self.seen.append(tuple(image.shape[-2:]))
        return torch.cat([image, image.sum(1, keepdim=True)], 1)


@pytest.mark.parametrize(("shape", "padded"), [((8, 12), (8, 12)), ((7, 9), (8, 12)), ((1, 2), (4, 4))])
def test_an_image_is_extended_to_what_the_model_reads_and_cut_back(shape, padded):
    model, image = ByColor(), torch.randn(2, 3, *shape)
    assert segment(model, image).equal(torch.cat([image, image.sum(1, keepdim=True)], 1))
    assert model.seen == [padded]


@pytest.mark.parametrize("shape", [(8, 8), (9, 17), (20, 13), (3, 30), (5, 5)])
@pytest.mark.parametrize("window", [6, 8])
def test_windows_cover_the_image_and_their_probabilities_are_averaged(shape, window):
    model, image = ByColor(), torch.randn(2, 3, *shape)
    expected = torch.cat([image, image.sum(1, keepdim=True)], 1).log_softmax(1)
    torch.testing.assert_close(segment(model, image, window), expected)
    assert set(model.seen) == {(8, 8)}


@pytest.mark.parametrize(
    ("length", "window", "places"),
    [(6, 6, [0]), (7, 6, [0, 1]), (10, 6, [0, 4]), (11, 6, [0, 4, 5]), (15, 6, [0, 4, 8, 9]), (3, 1, [0, 1, 2])],
)
def test_windows_are_two_thirds_of_their_side_apart_and_the_last_is_at_the_end(length, window, places):
    assert window_places(length, window) == places
