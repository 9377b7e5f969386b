"""Sets of images with one label each: the door they come in by, and the layout of ImageNet, CIFAR and many others."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from bixt3d.datasets.images.reading import Example, ExampleReader, ImageSet, image_files
from bixt3d.datasets.images.transforms import ImageAugment, View, square_view
from bixt3d.io.bounds import check_names
from bixt3d.types import InputError

MOST_WORKERS = 256
"""Processes that read images: more start, and take memory, for minutes."""


class ImageSource(ABC):
    """A data set of images with one label each, as the ``data`` part of a config names it.

    Args:
        root: folder of the data.
        size: side in pixels of the square that the model sees.
        crop_fraction: in evaluation, that square as a share of the image's shorter side.
        val_fraction: share of the training images of each class set aside to select on (0: none).
        workers: processes that read images; 0: none, null: one for each CPU, but at most 4.
        cache: read all images at once and keep them in memory.
    """

    def __init__(
        self,
        root: str,
        size: int = 224,
        crop_fraction: float = 0.875,
        val_fraction: float = 0.0,
        workers: int | None = None,
        cache: bool = False,
    ):
        check_size(size)
        if not 0 < crop_fraction <= 1:
            raise InputError(f"data.crop_fraction must be above 0 and at most 1, not {crop_fraction}")
        self.root, self.size, self.crop_fraction, self.val_fraction = Path(root), size, crop_fraction, val_fraction
        self.workers, self.cache = count_workers(workers), cache

    @abstractmethod
    def load(self, augment: ImageAugment | None = None) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test set. Raises InputError if the data are missing or broken."""


class ImageFolder(ImageSource):
    """A folder for each class: ``train/CLASS/*.jpg``, and the same under ``test/`` or ``val/``, on which is tested.

    Files may be .jpg, .jpeg, .png, .bmp and .webp, in capitals too. Classes are numbered by the names of the folders,
    as ImageNet's are.
    """

    def load(self, augment: ImageAugment | None = None) -> tuple[ImageSet, ImageSet]:
        train, test = self._find("train"), self._find("test", "val")
        ours, theirs = (tuple(path.name for path in class_folders(folder)) for folder in (train, test))
        if ours != theirs:
            name = min(set(ours) ^ set(theirs))
            here, there = (train, test) if name in ours else (test, train)
            raise InputError(
                f"the classes of {train} and {test} differ: {here.name} has '{name}', {there.name} has not"
            )
        seen = square_view(self.size, self.crop_fraction)
        shown = augment.view(self.size, self.crop_fraction) if augment else seen
        return self._read(train, seen, shown), self._read(test, seen, seen)

    def _find(self, *names: str) -> Path:
        """Return the first folder of these names that has folders in it."""
        for name in names:
            if (folder := self.root / name).is_dir() and class_folders(folder):
                return folder
        where = " or ".join(str(self.root / name) for name in names)
        raise InputError(
            f"{where} is missing or empty: it has a folder of images for each class, see `bixt3d download --layouts`"
        )

    def _read(self, folder: Path, seen: View, shown: View) -> ImageSet:
        files, labels, names = [], [], []
        for number, of_class in enumerate(class_folders(folder)):
            found = image_files(of_class)
            if not found:
                raise InputError(f"{of_class} holds no images (.jpg, .jpeg, .png, .bmp, .webp): fill it or remove it")
            files += found
            labels += [number] * len(found)
            names.append(of_class.name)
        check_names(names, folder)
        label = torch.tensor(labels)
        reader = LabeledReader(files, label, seen, shown, self.cache)
        return ImageSet(reader, label, tuple(names), self.workers, torch.arange(len(files)))


class LabeledReader(ExampleReader):
    """Reads images that have one label each: ``image`` and ``label``."""

    def __init__(self, files: Sequence[Path], label: Int[Tensor, " S"], seen: View, shown: View, cache: bool):
        super().__init__(files, cache)
        self.label, self.seen, self.shown = label, seen, shown

    def example(self, place: int, augmented: bool) -> Example:
        image = (self.shown if augmented else self.seen)(self.image(place))
        return {"image": image, "label": self.label[place]}


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def check_size(size: int) -> None:
    """Raise InputError for a size that no image has."""
    if size < 1:
        raise InputError(f"data.size must be at least 1 pixel, not {size}")


def count_workers(workers: int | None) -> int:
    """Return how many processes read images."""
    if workers is None:
        return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if not 0 <= workers <= MOST_WORKERS:
        raise InputError(f"data.workers must be from 0 to {MOST_WORKERS}, but is {workers}")
    return workers
