"""Image transforms: sizes, colors, what is random and what is not; an image and its annotation stay aligned."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from bixt3d.datasets.images.transforms import (
    MEAN_COLOR,
    ImageAugment,
    SegmentationAugment,
    normalize,
    seeded,
    square_view,
    to_pixels,
)
from bixt3d.types import InputError


def picture(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_the_mean_color_becomes_zero_and_every_pixel_comes_back():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1)[:, None]
    image = normalize(pixels)
    assert image[:, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert np.array_equal(to_pixels(image), pixels.permute(1, 2, 0).numpy())
    mean = torch.tensor(MEAN_COLOR, dtype=torch.uint8).view(3, 1, 1)
    assert normalize(mean).abs().max() < 0.02


@pytest.mark.parametrize(("size", "crop_fraction"), [(24, 0.875), (32, 0.875), (30, 1.0), (28, 0.9)])
@pytest.mark.parametrize("shape", [(40, 30), (30, 57), (20, 21)])
def test_evaluation_sees_what_timm_sees(size, crop_fraction, shape):
    from timm.data import create_transform

    image = picture(*shape)
    theirs = create_transform(size, interpolation="bicubic", crop_pct=crop_fraction, is_training=False)(image)
    torch.testing.assert_close(normalize(square_view(size, crop_fraction)(image)), theirs)


def test_an_image_that_has_the_size_is_not_touched():
    image = picture(32, 32)
    assert np.array_equal(square_view(32, 1.0)(image).permute(1, 2, 0).numpy(), np.asarray(image))


@pytest.mark.parametrize("crop", ["resized", "simple", "center"])
@pytest.mark.parametrize("policy", ["none", "three", "trivial", "rand"])
def test_training_sees_squares_of_the_size_in_bytes_and_each_seed_another_one(crop, policy):
    view = ImageAugment(crop=crop, policy=policy, color_jitter=0.3, erase=0.5).view(24, 0.875)
    seen = []
    for seed in (1, 2, 1):
        with seeded(seed, 0):
            seen.append(view(picture()))
    assert all(pixels.shape == (3, 24, 24) and pixels.dtype == torch.uint8 for pixels in seen)
    assert seen[0].equal(seen[2])
    assert not seen[0].equal(seen[1])


def test_without_anything_random_training_sees_what_evaluation_sees():
    image = picture()
    view = ImageAugment(crop="center", flip=False).view(24, 0.875)
    assert view(image).equal(square_view(24, 0.875)(image))


def test_three_augment_makes_an_image_grey_solarized_or_blurred():
    image, view = picture(32, 32), ImageAugment(crop="center", flip=False, policy="three").view(32, 1.0)
    pixels = np.asarray(image).astype(int)
    solarized = np.where(pixels < 128, pixels, 255 - pixels)
    kinds = []
    for seed in range(20):
        with seeded(seed, 0):
            seen = view(image).permute(1, 2, 0).numpy().astype(int)
        if (seen.max(2) == seen.min(2)).all():
            kinds.append("grey")
        elif np.array_equal(seen, solarized):
            kinds.append("solarized")
        else:
            assert abs(seen - pixels).max() > 0 and seen.std() < pixels.std()
            kinds.append("blurred")
    assert set(kinds) == {"grey", "solarized", "blurred"}


def test_an_erased_rectangle_has_the_mean_color():
    view = ImageAugment(crop="center", flip=False, erase=1.0).view(32, 1.0)
    with seeded(0, 0):
        seen = view(Image.new("RGB", (32, 32), (0, 0, 0)))
    colors = {tuple(color) for color in seen.flatten(1).T.tolist()}
    assert colors == {(0, 0, 0), MEAN_COLOR}


def black_and_white() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 3, 16, 16).contiguous()
    return image, torch.tensor([2, 0, 2])


def test_mixup_mixes_labels_as_it_mixes_pixels():
    image, target = ImageAugment(mixup=0.8).mixing(4)(*black_and_white(), 1)
    assert len(image) == len(target) == 2
    assert target.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert target[:, [1, 3]].eq(0).all()
    assert image.std((1, 2, 3)).max() < 1e-6
    assert image.mean((1, 2, 3)).tolist() == pytest.approx(target[:, 2].tolist())


def test_cutmix_mixes_labels_by_the_area():
    image, target = ImageAugment(cutmix=1.0).mixing(4)(*black_and_white(), 1)
    assert set(image.flatten().tolist()) <= {0.0, 1.0}
    assert image.mean((1, 2, 3)).tolist() == pytest.approx(target[:, 2].tolist())


def test_with_mixup_and_cutmix_the_key_chooses_one_for_every_share_of_the_batch():
    mix, (image, label) = ImageAugment(mixup=0.8, cutmix=1.0).mixing(4), black_and_white()
    kinds = set()
    for step in range(12):
        mixed, target = mix(image, label, "mix", 3, step)
        kinds.add("cutmix" if set(mixed.flatten().tolist()) <= {0.0, 1.0} else "mixup")
        part, part_target = mix(image[1:], label[1:], "mix", 3, step)
        assert part.equal(mixed[1:]) and part_target.equal(target[1:])
    assert kinds == {"cutmix", "mixup"}


def test_a_share_of_the_batches_is_mixed():
    mix, (image, label) = ImageAugment(mixup=0.8, mix_rate=0.5).mixing(4), black_and_white()
    mixed = [mix(image, label, step) for step in range(40)]
    assert 8 < sum(target.ndim == 1 for _, target in mixed) < 32
    assert all(one.equal(image[1:]) and target.equal(label[1:]) for one, target in mixed if target.ndim == 1)


def test_nothing_is_mixed_unless_that_is_asked_for():
    assert ImageAugment().mixing(4) is None
    assert ImageAugment(mixup=0.8, mix_rate=0.0).mixing(4) is None


def test_seeding_leaves_what_others_draw_as_it_is():
    torch.manual_seed(5)
    random.seed(5)
    expected = torch.rand(3).tolist(), random.random()
    torch.manual_seed(5)
    random.seed(5)
    with seeded(1, 2):
        inside = torch.rand(3).tolist(), random.random()
    assert (torch.rand(3).tolist(), random.random()) == expected
    with seeded(1, 2):
        assert (torch.rand(3).tolist(), random.random()) == inside
    with seeded(2, 1):
        assert torch.rand(3).tolist() != inside[0]


def annotated_image(width: int = 20, height: int = 12) -> tuple[Image.Image, np.ndarray]:
    """Return an image whose color is 10 times its class."""
    numbers = np.random.default_rng(1).integers(1, 9, (height, width), dtype=np.uint8)
    return Image.fromarray(np.repeat(10 * numbers[..., None], 3, axis=2)), numbers


@pytest.mark.parametrize("size", [8, 12, 16, 31])
def test_an_image_and_its_classes_are_cropped_and_flipped_together(size):
    augment, image_and_numbers = SegmentationAugment(scale=(1.0, 1.0), color_jitter=0.0), annotated_image()
    cuts = set()
    for seed in range(8):
        with seeded(seed, 0):
            pixels, numbers = augment(*image_and_numbers, size)
        assert pixels.shape == (3, size, size) and numbers.shape == (size, size)
        assert pixels.dtype == numbers.dtype == torch.uint8
        inside = numbers > 0
        assert pixels[:, inside].equal((10 * numbers[inside]).expand(3, -1))
        outside = pixels[:, ~inside]
        assert outside.equal(torch.tensor(MEAN_COLOR, dtype=torch.uint8)[:, None].expand_as(outside))
        assert (size > 12) == (not inside.all())
        cuts.add(tuple(numbers.flatten().tolist()))
    assert len(cuts) > 4


def test_an_image_is_enlarged_with_its_classes():
    image, numbers = Image.new("RGB", (8, 8), (50, 50, 50)), np.zeros((8, 8), np.uint8)
    numbers[:, :4] = 1
    numbers[:, 4:] = 2
    _, seen = SegmentationAugment(scale=(2.0, 2.0), flip=False, color_jitter=0.0)(image, numbers, 16)
    assert seen[:, :8].eq(1).all() and seen[:, 8:].eq(2).all()


def test_color_changes_pixels_but_no_class():
    image, numbers = annotated_image()
    plain, jittered = (SegmentationAugment(scale=(1.0, 1.0), flip=False, color_jitter=jitter) for jitter in (0.0, 0.5))
    with seeded(4, 0):
        pixels, labels = plain(image, numbers, 12)
    with seeded(4, 0):
        other_pixels, other_labels = jittered(image, numbers, 12)
    assert labels.equal(other_labels)
    assert not pixels.equal(other_pixels)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"scale": (0.5, 0.2)}, "augment.scale must be two shares of an image, the smaller first"),
        ({"scale": (0.5, 2.0)}, "augment.scale must be two shares of an image, the smaller first"),
        ({"mixup": -1.0}, "augment.mixup must not be negative"),
        ({"color_jitter": -1.0}, "augment.color_jitter must not be negative"),
        ({"erase": 2.0}, "augment.erase must be between 0 and 1"),
        ({"mix_rate": -0.5}, "augment.mix_rate must be between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        ImageAugment(**wrong)


@pytest.mark.parametrize("wrong", [{"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"color_jitter": 1.5}])
def test_settings_for_segmentation_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match=f"augment.{next(iter(wrong))} must"):
        SegmentationAugment(**wrong)
