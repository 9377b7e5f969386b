"""Heat maps of attention over images: color where attention is high, and a half for each direction."""

import io

import numpy as np
import pytest
from PIL import Image

from bixt3d.viz.attention import READ, WRITE, AttentionMap
from bixt3d.viz.image_attention import (
    all_latents_png,
    draw_all_latents,
    draw_image_attention,
    heat,
    image_attention_png,
)

GRID = (2, 3)
GREY = np.full((40, 60, 3), 128, np.uint8)


def one_patch(place: int, num_latents: int = 2, **changes) -> AttentionMap:
    """Return a map in which latent 0 reads one of six patches and is read by it alone; the others are even."""
    reads = np.full((num_latents, 6), 1 / 6)
    reads[0] = np.eye(6)[place]
    writes = np.full((6, num_latents), 1 / num_latents)
    writes[:, 0], writes[place, 0] = 0, 1
    return AttentionMap(**{"pos": np.zeros((6, 3)), "reads": reads, "writes": writes, "symmetry": 0.5} | changes)


def colored(png: bytes) -> np.ndarray:
    """Return line, column, and red minus blue of every pixel that is clearly not grey."""
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    picture = picture[155:]  # below the head, whose image has colors of its own
    found = np.argwhere(picture.max(axis=2) - picture.min(axis=2) > 60)
    red_blue = picture[tuple(found.T)] @ [1, 0, -1]
    return np.concatenate([found, red_blue[:, None]], axis=1)


@pytest.mark.parametrize("place", range(6))
def test_the_darkest_spot_is_on_the_patch_that_is_read(place):
    values = 6 * np.eye(6)[place].reshape(GRID)
    dark = heat(GREY, values, READ).astype(int)
    row, column = np.unravel_index(dark[..., 1].argmin(), dark.shape[:2])
    assert (row // 20, column // 20) == divmod(place, 3)
    assert dark[..., 1].min() < 60


def test_without_attention_the_image_is_grey():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = (10, 200, 90)
    cold = heat(image, np.zeros(GRID), READ)
    assert (cold == cold[..., :1]).all() and cold[0, 0, 0] < cold[0, -1, 0]


def test_uniform_attention_is_paler_than_a_peak():
    even, peak = heat(GREY, np.ones(GRID), READ), heat(GREY, 6 * np.eye(6)[0].reshape(GRID), READ)
    assert even.min() > peak.min() + 30


def test_what_latents_read_is_above_in_red_and_who_reads_them_below_in_blue():
    png = image_attention_png(GREY, [one_patch(0, num_latents=8)], GRID, [0], "cat")
    rows, _, red_blue = colored(png).T
    assert (red_blue > 0).sum() > 100 and (red_blue < 0).sum() > 100
    middle = (rows.min() + rows.max()) / 2
    pictures = np.abs(red_blue) > 100
    assert (red_blue[pictures & (rows < middle - 60)] > 0).all()
    assert (red_blue[pictures & (rows > middle + 60)] < 0).all()


def test_a_row_for_each_latent_and_a_column_for_each_layer():
    small, wide, tall = (
        Image.open(io.BytesIO(image_attention_png(GREY, [one_patch(1)] * layers, GRID, latents, "cat"))).size
        for layers, latents in ((8, [0]), (12, [0]), (8, [0, 1, 0]))
    )
    assert wide[0] > small[0] and wide[1] == small[1]
    assert tall[1] > small[1] and tall[0] == small[0]


def test_a_layer_leaves_out_the_direction_it_does_not_have():
    both, last = one_patch(0, num_latents=8), one_patch(0, num_latents=8, writes=None, symmetry=None)
    counts = []
    for maps in ([both, both], [both, last]):
        found = colored(image_attention_png(GREY, maps, GRID, [0], "cat"))
        counts.append(((found[:, 2] > 40).sum(), (found[:, 2] < -40).sum()))
    assert counts[0][0] == pytest.approx(counts[1][0], rel=0.1)
    assert counts[1][1] < counts[0][1] - 500


def test_all_latents_of_a_layer_are_on_one_picture_each_direction_on_its_side():
    full = all_latents_png(GREY, one_patch(2, num_latents=20), GRID, "cat, layer 3")
    width = Image.open(io.BytesIO(full)).size[0]
    _, columns, red_blue = colored(full).T
    assert columns[red_blue > 100].max() < width / 2 < columns[red_blue < -100].min()
    alone = all_latents_png(GREY, one_patch(2, num_latents=20, reads=None), GRID, "cat")
    assert (colored(alone)[:, 2] > 100).sum() == 0 and Image.open(io.BytesIO(alone)).size[0] < width


def test_files_hold_the_same_pictures(tmp_path):
    maps = [one_patch(0)] * 2
    draw_image_attention(tmp_path / "a.png", GREY, maps, GRID, [1], "cat")
    draw_all_latents(tmp_path / "b.png", GREY, maps[0], GRID, "cat")
    assert (tmp_path / "a.png").read_bytes() == image_attention_png(GREY, maps, GRID, [1], "cat")
    assert (tmp_path / "b.png").read_bytes() == all_latents_png(GREY, maps[0], GRID, "cat")


def test_the_colors_are_those_of_clouds():
    assert READ[2] == "#d7301f" and WRITE[2] == "#0570b0"
