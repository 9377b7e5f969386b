"""Pictures of cross-attention: the choice of latents, and a color for each direction."""

import io

import numpy as np
from PIL import Image

from bixt3d.viz.attention import AttentionMap, attention_png, choose_latents, draw_attention

LEFT, HEAD, NOTE, SIDE = 170, 62, 26, 300  # of the picture, in pixels


def two_groups() -> tuple[np.ndarray, np.ndarray]:
    """Return 200 points, half of them around a token at the left, half around one at the right, and both tokens."""
    tokens = np.array([[-1.0, 0, 0], [1.0, 0, 0]])
    return np.repeat(tokens, 100, 0) + np.random.default_rng(0).normal(scale=0.2, size=(200, 3)), tokens


def only(*rows: int, num: int = 2) -> np.ndarray:
    """Return shares that give all to one place in each row."""
    return np.eye(num)[list(rows)]


def panel(png: bytes, row: int, column: int) -> np.ndarray:
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    y, x = HEAD + row * (SIDE + NOTE), LEFT + column * SIDE
    return picture[y : y + SIDE, x : x + SIDE]


def darkness(picture: np.ndarray) -> float:
    """Return the mean darkness of what is drawn; 0 where nothing is."""
    drawn = picture[(picture < 245).any(axis=2)]
    return float(255 - drawn.mean()) if len(drawn) else 0.0


def test_the_first_latent_has_the_highest_peak_and_the_next_reads_elsewhere():
    reads = np.array([[0.5, 0.5, 0, 0], [0.4, 0.6, 0, 0], [0.9, 0.1, 0, 0], [0, 0, 0.5, 0.5]])
    maps = [AttentionMap(np.zeros((4, 3)), reads[::-1], None), AttentionMap(np.zeros((4, 3)), reads, None)]
    assert choose_latents(maps, 2) == [2, 3]
    assert sorted(choose_latents(maps, 9)) == [0, 1, 2, 3]


def test_the_last_layer_in_which_latents_read_chooses():
    reads, writes = np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([[0.2, 0.8], [0.7, 0.3]])
    pos = np.zeros((2, 3))
    assert choose_latents([AttentionMap(pos, reads, writes.T), AttentionMap(pos, None, writes)], 1) == [1]
    assert choose_latents([AttentionMap(pos, None, np.array([[0.9, 0.1], [0.2, 0.8]]))], 1) == [0]


def test_points_have_the_color_of_their_nearest_token(without_open3d):
    xyz, tokens = two_groups()
    layer = AttentionMap(tokens, only(0, 1), only(1, 0))  # latent 0 reads the left token, and is read by the right one
    png, who = attention_png(xyz, [layer], [0, 1], "cloud")
    assert who.startswith("matplotlib, because")
    halves = {(row, half): darkness(panel(png, row, 0)[:, half : half + 150]) for row in range(4) for half in (0, 150)}
    for row, dark in enumerate((0, 150, 150, 0)):  # reads, is read by; of latent 0, of latent 1
        assert halves[row, dark] > 1.5 * halves[row, 150 - dark] > 0


def test_reading_is_red_and_being_read_is_blue(without_open3d):
    xyz, tokens = two_groups()
    png, _ = attention_png(xyz, [AttentionMap(tokens, only(0, 1), only(0, 1))], [0], "cloud")
    for row, (more, less) in enumerate(((0, 2), (2, 0))):
        colors = panel(png, row, 0).reshape(-1, 3)
        strong = colors[colors.max(1) - colors.min(1) > 40]
        assert len(strong) > 100 and (strong[:, more] > strong[:, less]).all()


def test_a_layer_leaves_out_the_direction_it_does_not_have(without_open3d):
    xyz, tokens = two_groups()
    maps = [AttentionMap(tokens, only(0, 1), only(0, 1), 1.0), AttentionMap(tokens, None, only(0, 1))]
    png, _ = attention_png(xyz, maps, [1], "cloud")
    assert [[darkness(panel(png, row, column)) > 0 for column in (0, 1)] for row in (0, 1)] == [
        [True, False],
        [True, True],
    ]


def test_uniform_attention_is_pale(without_open3d):
    xyz, tokens = two_groups()
    even = AttentionMap(tokens, np.full((2, 2), 0.5), np.full((2, 2), 0.5))
    focused = AttentionMap(np.repeat(tokens, 8, 0), np.eye(16), np.eye(16))
    png, _ = attention_png(xyz, [even, focused], [0], "cloud")
    assert panel(png, 0, 0).min() > panel(png, 0, 1).min() + 30


def test_a_file_holds_the_same_picture_of_many_layers(tmp_path, without_open3d):
    xyz, tokens = two_groups()
    maps, path = [AttentionMap(tokens, only(0, 1), only(0, 1), 0.5)] * 7, tmp_path / "a.png"
    who = draw_attention(path, xyz, maps, [1], "cloud", "z")
    assert (path.read_bytes(), who) == attention_png(xyz, maps, [1], "cloud", "z")
