"""Predictors of images: classification and semantic segmentation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import pad

from bixt3d.datasets.images.reading import as_rgb, read_image
from bixt3d.datasets.images.transforms import normalize, square_view
from bixt3d.inference.predictions import BasePrediction, ClassPrediction, check_finite, percent_lines
from bixt3d.inference.predictor import BasePredictor, features_of
from bixt3d.io.extras import need
from bixt3d.models.attention_maps import LayerAttention, image_attention_maps
from bixt3d.models.image_classifier import ImageClassifier
from bixt3d.models.image_segmenter import ImageSegmenter
from bixt3d.types import InputError


@dataclass(frozen=True)
class ImagePrediction(ClassPrediction):
    """The predicted class of an image, its probability, and the probabilities of all classes, highest first."""

    name: str
    confidence: float
    probabilities: dict[str, float]


@dataclass(frozen=True, eq=False)
class SegmentationPrediction(BasePrediction):
    """The predicted class of every pixel of an image: ``class_names[labels[y, x]]`` at row y and column x.

    ``shares``: share of the pixels for each class, highest first, without classes that have none.
    """

    labels: Int[Tensor, "X Y"]
    class_names: tuple[str, ...]
    shares: dict[str, float]

    def facts(self) -> dict[str, Any]:
        return {"shares": self.shares}

    def table(self, top: int) -> list[str]:
        return percent_lines(self.shares)


class BaseImagePredictor(BasePredictor, ABC):
    """Base class of image predictors: they prepare images as in evaluation.

    Args:
        model: the trained model.
        class_names: names of the classes, in the order of the logits.
    """

    def __init__(self, model: nn.Module, class_names: Sequence[str]):
        need("a model of images", "torchvision", "PIL")
        self.model, self.class_names = model.eval(), tuple(class_names)

    @abstractmethod
    def view(self, image: Any) -> UInt8[Tensor, "3 X Y"]:
        """Return the pixels that the model reads of a Pillow image in RGB."""

    @abstractmethod
    def _describe(self, image: Float[Tensor, "1 3 X Y"]) -> BasePrediction: ...

    def prepare(self, image: Any) -> Float[Tensor, "3 X Y"]:
        """Return the input of the model for one image (of any kind that ``predict`` takes), on the model's device."""
        return normalize(self.view(as_image(image)).to(self.device))

    @torch.no_grad()  # not inference mode: autograd may use the features later
    def embed(self, images: Any) -> Float[Tensor, "*B D"]:
        """Return the embedding, the pooled features: (D,) for one image, (B, D) for a list of them, on the CPU.

        Takes the arguments of ``predict``. Raises InputError for a custom model class without features.
        """
        function = features_of(self.model)
        pooled = self._each(images, lambda image: function(self._padded(image)).pooled[0].float().cpu())
        return torch.stack(pooled) if isinstance(pooled, list) else pooled

    def attention_maps(self, image: Any) -> list[LayerAttention]:
        """Return the attention maps between latents and patches of every layer for one image.

        Takes one image, as ``predict`` does. Raises InputError for a model without latents.
        """
        return image_attention_maps(self.model, self._padded(self.prepare(image)[None])[0])

    def _padded(self, image: Float[Tensor, "1 3 X Y"]) -> Float[Tensor, "1 3 _ _"]:
        stride = getattr(self.model, "stride", 1)
        return pad(image, (0, -image.shape[3] % stride, 0, -image.shape[2] % stride))

    @torch.inference_mode()
    def _predict(self, images: Any) -> Any:
        return self._each(images, self._describe)

    def _each(self, images: Any, function: Callable[[Tensor], Any]) -> Any:
        """Apply a function of a prepared image (1, 3, X, Y) to one image, or to each image of a list."""
        several = isinstance(images, (list, tuple))
        found = [function(self.prepare(image)[None]) for image in (images if several else [images])]
        return found if several else found[0]


class ImagePredictor(BaseImagePredictor):
    """Predicts the class of images with a trained classifier; `bixt3d.load_run` makes it.

    Args:
        model: the trained classifier.
        class_names: names of the classes, in the order of the logits.
        size: side of the center crop after resizing, in pixels.
        crop_fraction: side of the center crop as a share of the image's shorter side.
    """

    task = "image classification"

    def __init__(self, model: ImageClassifier, class_names: Sequence[str], size: int, crop_fraction: float = 0.875):
        super().__init__(model, class_names)
        self.size, self.crop_fraction = size, crop_fraction
        self._view = square_view(size, crop_fraction)

    def facts(self) -> dict[str, Any]:
        return {"size": self.size}

    def view(self, image: Any) -> UInt8[Tensor, "3 X Y"]:
        return self._view(image)

    def predict(self, images: Any) -> ImagePrediction | list[ImagePrediction]:
        """Classify images: one ImagePrediction for one image, a list for a list of them.

        Takes the path of a file, a Pillow image, or a uint8 array (rows, columns, 3) or (rows, columns). The model
        reads the center crop, as in evaluation. Raises InputError for a file that is no image.
        """
        return self._predict(images)

    def _describe(self, image: Float[Tensor, "1 3 X Y"]) -> ImagePrediction:
        logits = self.model(image)[0].float().cpu()
        check_finite(logits, "this image")
        probability = logits.softmax(0)
        order = probability.argsort(descending=True, stable=True).tolist()
        ranked = {self.class_names[i]: float(probability[i]) for i in order}
        name = self.class_names[order[0]]
        return ImagePrediction(name, ranked[name], ranked)


class ImageSegmentationPredictor(BaseImagePredictor):
    """Predicts the class of every pixel of images with a trained segmenter; `bixt3d.load_run` makes it.

    Args:
        model: the trained segmenter.
        class_names: names of the classes, in the order of the logits.
        window: side of the sliding window in pixels; None: the model reads whole images.
    """

    task = "image segmentation"

    def __init__(self, model: ImageSegmenter, class_names: Sequence[str], window: int | None = None):
        super().__init__(model, class_names)
        self.window = window

    def facts(self) -> dict[str, Any]:
        return {"window": self.window or "whole images"}

    def view(self, image: Any) -> UInt8[Tensor, "3 X Y"]:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def predict(self, images: Any) -> SegmentationPrediction | list[SegmentationPrediction]:
        """Segment images: one SegmentationPrediction for one image, a list for a list of them.

        Takes the arguments of `ImagePredictor.predict`. Images are not resized, as in evaluation.
        """
        return self._predict(images)

    def _describe(self, image: Float[Tensor, "1 3 X Y"]) -> SegmentationPrediction:
        logits = segment(self.model, image, self.window)[0]
        check_finite(logits, "this image")
        labels = logits.argmax(0).cpu()
        shares = labels.flatten().bincount(minlength=len(self.class_names)) / labels.numel()
        order = shares.argsort(descending=True, stable=True).tolist()
        ranked = {self.class_names[i]: float(shares[i]) for i in order if shares[i]}
        return SegmentationPrediction(labels, self.class_names, ranked)


def segment(
    model: ImageSegmenter, image: Float[Tensor, "B 3 X Y"], window: int | None = None
) -> Float[Tensor, "B C X Y"]:
    """Return the logits of every pixel of images of any size; with a sliding window, the log of mean probabilities.

    Images are padded at the right and the bottom, with the mean color, to a size that the model can read.
    """
    stride, (rows, columns) = getattr(model, "stride", 1), image.shape[-2:]
    if window is None:
        return model(pad(image, (0, -columns % stride, 0, -rows % stride)))[..., :rows, :columns].float()
    image = pad(image, (0, max(0, window - columns), 0, max(0, window - rows)))
    total, counts = 0.0, image.new_zeros(image.shape[-2:])
    for top in window_places(image.shape[2], window):
        for left in window_places(image.shape[3], window):
            probability = segment(model, image[..., top : top + window, left : left + window]).softmax(1)
            margins = (left, image.shape[3] - left - window, top, image.shape[2] - top - window)
            total = total + pad(probability, margins)
            counts[top : top + window, left : left + window] += 1
    return (total / counts)[..., :rows, :columns].clamp(min=1e-12).log()


def window_places(length: int, window: int) -> list[int]:
    """Return the starts of the sliding windows along an axis: two thirds of a window apart, the last at the end."""
    return [*range(0, length - window, max(1, 2 * window // 3)), length - window]


def as_image(image: Any) -> Any:
    """Return a Pillow image in RGB. Raises InputError for anything that is no image."""
    from PIL import Image

    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return as_rgb(image)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise InputError(
            f"an image as an array must be uint8 of shape (rows, columns, 3) or (rows, columns), not "
            f"{pixels.dtype} of shape {pixels.shape}"
        )
    return Image.fromarray(pixels).convert("RGB")
