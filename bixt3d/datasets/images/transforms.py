"""Image transforms for evaluation and training, by torchvision and timm.

Images are Pillow images until the last step, which returns uint8; `normalize` converts them to floats on the device.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bixt3d.datasets.transforms.draws import mix_key
from bixt3d.io.extras import need
from bixt3d.types import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels: red, green and blue."""
MEAN_COLOR = tuple(round(255 * value) for value in MEAN)
"""Fill color of erased rectangles and borders: about 0 after normalization."""

View = Callable[[Any], UInt8[Tensor, "3 X Y"]]
"""A transform from a Pillow image to pixels."""
Mix = Callable[..., tuple[Tensor, Tensor]]
"""Mixup or CutMix: from images, labels and a key to mixed images and class probabilities; see `ImageAugment.mixing`."""


def normalize(pixels: UInt8[Tensor, "*B 3 X Y"]) -> Float[Tensor, "*B 3 X Y"]:
    """Normalize pixels by ImageNet's mean and standard deviation; unlike torchvision's, without a device sync."""
    mean, std = (torch.tensor(one).view(3, 1, 1).to(pixels.device, non_blocking=True) for one in (MEAN, STD))
    return pixels.float().div_(255).sub_(mean).div_(std)


def to_pixels(image: Float[Tensor, "3 X Y"]) -> UInt8[np.ndarray, "X Y 3"]:
    """Undo `normalize`: return the pixels, channels last."""
    mean, std = (torch.tensor(values, device=image.device).view(3, 1, 1) for values in (MEAN, STD))
    return ((image * std + mean) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()


def square_view(size: int, crop_fraction: float) -> View:
    """Return the evaluation transform of a classifier: resize the shorter side (bicubic), then center crop.

    The shorter side becomes ``size / crop_fraction``, rounded down, as in timm. An image of that size is not resampled.
    """
    need("reading images", "torchvision", "PIL")
    from torchvision.transforms import v2

    shorter = int(size / crop_fraction)
    return v2.Compose(
        [v2.Resize(shorter, v2.InterpolationMode.BICUBIC), v2.CenterCrop(size), v2.PILToTensor()],
    )


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Seed the generators of torchvision (PyTorch's) and timm (Python's) by the key; restore both at the end."""
    number = mix_key(*key) >> 1
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    torch.default_generator.manual_seed(number)  # torch.manual_seed would seed the GPU too
    random.seed(number)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)


class ImageAugment:
    """Data augmentation for image classification: random crop, flip, policy, color jitter, erasing, mixup, CutMix.

    The steps come in the order of the arguments below.

    Args:
        crop: "resized" (torchvision's RandomResizedCrop), "simple" (shorter side resized, then a random crop with 4
            pixels of reflected padding), or "center" (as in evaluation).
        scale: smallest and largest share of the image's area that "resized" crops.
        flip: flip horizontally with probability 1/2.
        policy: "three" (timm's 3-Augment of DeiT III: grayscale, solarize or blur), "trivial" (torchvision's
            TrivialAugmentWide), "rand" (torchvision's RandAugment).
        color_jitter: largest relative change of brightness, contrast and saturation.
        erase: probability of random erasing.
        mixup: alpha of mixup, on whole batches; 0: none.
        cutmix: alpha of CutMix; with mixup, each batch gets one of the two.
        mix_rate: probability that a batch is mixed at all.
    """

    def __init__(  # noqa: PLR0913 (one argument for each line of a config)
        self,
        crop: Literal["resized", "simple", "center"] = "resized",
        scale: tuple[float, float] = (0.08, 1.0),
        flip: bool = True,
        policy: Literal["none", "three", "trivial", "rand"] = "none",
        color_jitter: float = 0.0,
        erase: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mix_rate: float = 1.0,
    ):
        if not 0 < scale[0] <= scale[1] <= 1:
            raise InputError(f"augment.scale must be two shares of an image, the smaller first, not {tuple(scale)}")
        for name, value in {"color_jitter": color_jitter, "mixup": mixup, "cutmix": cutmix}.items():
            if value < 0:
                raise InputError(f"augment.{name} must not be negative, but is {value}")
        for name, value in {"erase": erase, "mix_rate": mix_rate}.items():
            if not 0 <= value <= 1:
                raise InputError(f"augment.{name} must be between 0 and 1, not {value}")
        self.crop, self.scale, self.flip, self.policy = crop, tuple(scale), flip, policy
        self.color_jitter, self.erase = color_jitter, erase
        self.mixup, self.cutmix, self.mix_rate = mixup, cutmix, mix_rate

    def view(self, size: int, crop_fraction: float) -> View:
        """Return the training transform of one image."""
        from torchvision.transforms import v2

        steps = self._crop(size, crop_fraction)
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        steps += self._policy()
        if self.color_jitter:
            steps.append(v2.ColorJitter(self.color_jitter, self.color_jitter, self.color_jitter))
        steps.append(v2.PILToTensor())
        if self.erase:
            steps.append(v2.RandomErasing(self.erase, value=list(MEAN_COLOR)))
        return v2.Compose(steps)

    def _crop(self, size: int, crop_fraction: float) -> list[Callable]:
        from torchvision.transforms import v2

        bicubic = v2.InterpolationMode.BICUBIC
        if self.crop == "resized":
            return [v2.RandomResizedCrop(size, self.scale, interpolation=bicubic)]
        if self.crop == "simple":
            return [v2.Resize(size, bicubic), v2.RandomCrop(size, padding=4, padding_mode="reflect")]
        return [v2.Resize(int(size / crop_fraction), bicubic), v2.CenterCrop(size)]

    def _policy(self) -> list[Callable]:
        from torchvision.transforms import v2

        if self.policy == "three":
            from timm.data.auto_augment import auto_augment_transform

            return [auto_augment_transform("3a")]
        bilinear, fill = v2.InterpolationMode.BILINEAR, list(MEAN_COLOR)
        if self.policy == "trivial":
            return [v2.TrivialAugmentWide(interpolation=bilinear, fill=fill)]
        return [v2.RandAugment(interpolation=bilinear, fill=fill)] if self.policy == "rand" else []

    def mixing(self, num_classes: int) -> Mix | None:
        """Return the mixup or CutMix of a batch by torchvision, seeded by a key; None if nothing is mixed.

        Each image but the first is mixed with the one before it, with the same ratio; the first is left out.
        """
        from torchvision.transforms import v2

        mixes = [v2.MixUp(alpha=self.mixup, num_classes=num_classes)] if self.mixup else []
        mixes += [v2.CutMix(alpha=self.cutmix, num_classes=num_classes)] if self.cutmix else []
        if not mixes or not self.mix_rate:
            return None
        choose = v2.RandomApply([v2.RandomChoice(mixes)], self.mix_rate)

        def mix(image: Tensor, label: Tensor, *key: int | str) -> tuple[Tensor, Tensor]:
            with seeded(*key):
                image, label = choose(image, label)
            return image[1:], label[1:]

        return mix


class SegmentationAugment:
    """Data augmentation for semantic segmentation: random scale, crop, horizontal flip and color jitter.

    Args:
        scale: smallest and largest scale factor of an image.
        flip: flip horizontally with probability 1/2.
        color_jitter: largest relative change of brightness, contrast and saturation; a tenth of it for the hue.
    """

    def __init__(self, scale: tuple[float, float] = (0.5, 2.0), flip: bool = True, color_jitter: float = 0.4):
        if not 0 < scale[0] <= scale[1]:
            raise InputError(f"augment.scale must be two positive factors, the smaller first, not {tuple(scale)}")
        if not 0 <= color_jitter <= 1:
            raise InputError(f"augment.color_jitter must be between 0 and 1, not {color_jitter}")
        self.scale, self.flip, self.color_jitter = tuple(scale), flip, color_jitter

    def __call__(
        self, image: Any, numbers: UInt8[np.ndarray, "X Y"], size: int
    ) -> tuple[UInt8[Tensor, "3 S S"], UInt8[Tensor, "S S"]]:
        """Return a random crop of ``size`` x ``size`` pixels, and their classes: 0 for unlabelled and padding."""
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        low, high = self.scale
        factor = low + (high - low) * torch.rand(()).item()
        shape = [max(1, round(factor * side)) for side in numbers.shape]
        steps = [
            v2.Resize(shape),
            v2.RandomCrop(size, pad_if_needed=True, fill={tv_tensors.Mask: 0, "others": MEAN_COLOR}),
        ]
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if jitter := self.color_jitter:
            steps.append(v2.ColorJitter(jitter, jitter, jitter, jitter / 10))
        mask = tv_tensors.Mask(torch.from_numpy(numbers)[None])
        image, mask = v2.Compose([*steps, v2.PILToTensor()])(image, mask)
        return image, mask[0].as_subclass(Tensor)
