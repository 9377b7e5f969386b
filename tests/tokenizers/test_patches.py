"""Image tokenizers: receptive field, positional encoding and image sizes."""

import math

import pytest
import torch
from torch import nn

from bixt3d.tokenizers import ConvTokenizer, ImageTokenizer, PatchTokenizer
from bixt3d.tokenizers.patches import grid_positions
from bixt3d.types import InputError

TOKENIZERS = {
    "patches": lambda: PatchTokenizer(16, 4),
    "overlapping": lambda: PatchTokenizer(16, 8, 4),
    "plain": lambda: PatchTokenizer(16, 4, position="plain"),
    "conv": lambda: ConvTokenizer(16, 4),
}


def images(rows: int = 8, columns: int = 12) -> torch.Tensor:
    return torch.randn(2, 3, rows, columns)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_patches_are_in_row_major_order(name: str):
    (tokens,) = TOKENIZERS[name]()(images())
    assert tokens.feats.shape == (2, 6, 16) and tokens.grid == (2, 3)
    rows, columns = tokens.pos[0].unflatten(0, (2, 3)).unbind(-1)
    torch.testing.assert_close(rows, torch.tensor([[0.5] * 3, [1.0] * 3]))
    torch.testing.assert_close(columns, torch.tensor([[1 / 3, 2 / 3, 1]] * 2))


def test_a_token_is_the_sum_of_a_linear_layer_of_its_pixels_and_of_its_positional_encoding():
    tokenizer, image = PatchTokenizer(16, 4), images()
    (tokens,) = tokenizer(image)
    flat = image[1, :, 4:8, 0:4].flatten()  # second row, first column
    pixels = nn.functional.linear(flat, tokenizer.project.weight.flatten(1), tokenizer.project.bias)
    feats = []
    for place in (2 / (2 + 1e-6), 1 / (3 + 1e-6)):  # row, then column
        for i in range(32):
            angle = 2 * math.pi * place / 10000 ** (2 * (i // 2) / 32)
            feats.append(math.cos(angle) if i % 2 else math.sin(angle))
    torch.testing.assert_close(tokens.feats[1, 3], pixels + tokenizer.position(torch.tensor(feats)))


def test_plain_positional_encodings_are_added_without_a_layer():
    tokenizer = PatchTokenizer(16, 4, position="plain")
    nn.init.zeros_(tokenizer.project.weight)
    (tokens,) = tokenizer(images())
    assert not list(tokenizer.position.parameters())
    place = 1 / (2 + 1e-6)  # the first of two rows: 8 features
    expected = [f(2 * math.pi * place / 10000 ** (2 * pair / 8)) for pair in range(4) for f in (math.sin, math.cos)]
    torch.testing.assert_close(tokens.feats[0, 0, :8], torch.tensor(expected))


@pytest.mark.parametrize("name, reach", [("patches", (4, 8)), ("overlapping", (2, 10)), ("conv", (1, 8))])
def test_the_receptive_field_of_a_token_is_its_patch(name: str, reach: tuple[int, int]):
    """The second of three patches that are 4 pixels apart. 3x3 convolutions also read pixels before the patch."""
    tokenizer, image = TOKENIZERS[name]().eval(), images(12, 12).requires_grad_()
    (tokens,) = tokenizer(image)
    (gradient,) = torch.autograd.grad(tokens.feats[0, 4].square().sum(), image)
    seen = gradient[0].abs().sum(0).nonzero()
    assert (seen.amin(0).tolist(), (seen.amax(0) + 1).tolist()) == ([reach[0]] * 2, [reach[1]] * 2)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_images_may_have_any_size_that_is_a_multiple_of_the_stride(name: str):
    tokenizer = TOKENIZERS[name]()
    for rows, columns in [(4, 4), (8, 16), (20, 12)]:
        (tokens,) = tokenizer(images(rows, columns))
        assert tokens.feats.shape == (2, rows * columns // 16, 16) and tokens.grid == (rows // 4, columns // 4)


@pytest.mark.parametrize("size", [(9, 12), (8, 10), (3, 3)])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_size_that_is_not_a_multiple_of_the_stride_is_an_error(name: str, size: tuple[int, int]):
    sentence = f"an image of {size[0]} x {size[1]} pixels does not divide into patches 4 pixels apart"
    with pytest.raises(InputError, match=sentence):
        TOKENIZERS[name]()(images(*size))


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: PatchTokenizer(16, 8, 5), "patches of 8 pixels cannot be 5 apart"),
        (lambda: PatchTokenizer(16, 4, 8), "patches of 4 pixels cannot be 8 apart"),
        (lambda: PatchTokenizer(18, 4, position="plain"), "need a width that is a multiple of 4, not 18"),
        (lambda: ConvTokenizer(16, 12), "no tokens of width 16 at a stride of 12"),
        (lambda: ConvTokenizer(18, 16), "no tokens of width 18 at a stride of 16"),
    ],
)
def test_wrong_settings_are_an_error(make, sentence: str):
    with pytest.raises(InputError, match=sentence):
        make()


@pytest.mark.parametrize(
    "tokenizer, names",
    [
        (lambda: PatchTokenizer(16, 4), ["position.weight", "position.bias", "project.weight", "project.bias"]),
        (
            lambda: ConvTokenizer(16, 4),
            ["position.weight", "position.bias"]
            + [f"project.{i}.{part}" for i in (0, 2) for part in ("0.weight", "1.weight", "1.bias")],
        ),
    ],
)
def test_parameter_names_are_frozen(tokenizer, names: list[str]):
    assert [name for name, _ in tokenizer().named_parameters()] == names


@pytest.mark.parametrize("stride, widths", [(16, [24, 48, 96, 192]), (8, [48, 96, 192]), (4, [96, 192])])
def test_the_width_doubles_with_every_convolution(stride: int, widths: list[int]):
    convs = [layer for layer in ConvTokenizer(192, stride).modules() if isinstance(layer, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == widths


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_parameter_gets_a_gradient(name: str):
    tokenizer: ImageTokenizer = TOKENIZERS[name]().eval()
    tokenizer(images())[0].feats.square().sum().backward()
    assert [name for name, parameter in tokenizer.named_parameters() if not parameter.grad.any()] == []


def test_patches_start_lecun_normal():
    weight = PatchTokenizer(64, 16).project.weight
    assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * 16 * 16), rel=0.05)
    assert weight.abs().max() <= 2 * 1.14 / math.sqrt(3 * 16 * 16)


def test_positions_stay_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        (tokens,) = PatchTokenizer(16, 4)(images())
    assert tokens.pos.dtype == torch.float32
    assert grid_positions(2, 3).shape == (1, 6, 2)
