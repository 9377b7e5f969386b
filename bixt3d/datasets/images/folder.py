"""Image classification data: the base class, and one folder per class as for ImageNet and CIFAR."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from bixt3d.datasets.images.reading import Example, ExampleReader, ImageSet, image_files, unread_images
from bixt3d.datasets.images.transforms import ImageAugment, View, square_view
from bixt3d.io.bounds import check_names
from bixt3d.types import InputError

MAX_WORKERS = 256
"""Largest number of data loader workers: more take minutes to start, and too much memory."""


class ImageSource(ABC):
    """Base class of data sets for image classification: derive from it and define `load`.

    A config names the class as ``data.class_path``.

    Args:
        root: folder of the data.
        size: side in pixels of the square crop that the model sees.
        crop_fraction: side of the center crop in evaluation, as a share of the shorter side of the image.
        val_fraction: share of the training images of each class split off for validation (0: none).
        workers: data loader processes; 0: read in the main process, null: one for each CPU, at most 4.
        cache: decode all images once and keep them in memory.
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
        """Return the training and the test set. Raises InputError if the data are missing or damaged.

        ``augment`` is applied to training images only; None: no augmentation.
        """


class ImageFolder(ImageSource):
    """One folder per class: ``train/CLASS/*.jpg``, and ``test/CLASS/*.jpg`` or ``val/CLASS/*.jpg`` to test on.

    Files may be .jpg, .jpeg, .png, .bmp and .webp, in upper case too. Classes are numbered in the order of the folder
    names, as in torchvision. The arguments are those of `ImageSource`.
    """

    def load(self, augment: ImageAugment | None = None) -> tuple[ImageSet, ImageSet]:
        train, test = self._find("train"), self._find("test", "val")
        train_names, test_names = (tuple(path.name for path in class_folders(folder)) for folder in (train, test))
        if train_names != test_names:
            name = min(set(train_names) ^ set(test_names))
            here, there = (train, test) if name in train_names else (test, train)
            raise InputError(
                f"the classes of {train} and {test} differ: {here.name} has '{name}', {there.name} has not"
            )
        eval_view = square_view(self.size, self.crop_fraction)
        train_view = augment.view(self.size, self.crop_fraction) if augment else eval_view
        sets = self._read(train, eval_view, train_view), self._read(test, eval_view, eval_view)
        notes = tuple(
            f"{place.name}: {note}" for place in (train, test) for note in unread_images(place, class_folders(place))
        )
        return replace(sets[0], notes=notes), replace(sets[1], notes=notes)

    def _find(self, *names: str) -> Path:
        """Return the first of these folders that has subfolders."""
        for name in names:
            if (folder := self.root / name).is_dir() and class_folders(folder):
                return folder
        where = " or ".join(str(self.root / name) for name in names)
        raise InputError(
            f"{where} is missing or empty: it has a folder of images for each class, see `bixt3d download --layouts`"
        )

    def _read(self, folder: Path, eval_view: View, train_view: View) -> ImageSet:
        files, labels, names = [], [], []
        for number, of_class in enumerate(class_folders(folder)):
            found = image_files(of_class)
            if not found:
                raise InputError(
                    f"{of_class} contains no images (.jpg, .jpeg, .png, .bmp, .webp): fill it or remove it"
                )
            files += found
            labels += [number] * len(found)
            names.append(of_class.name)
        check_names(names, folder)
        label = torch.tensor(labels)
        reader = LabeledReader(files, label, eval_view, train_view, self.cache)
        return ImageSet(reader, label, tuple(names), self.workers, torch.arange(len(files)))


class LabeledReader(ExampleReader):
    """Reads samples ``image`` and ``label`` for classification."""

    def __init__(self, files: Sequence[Path], label: Int[Tensor, " S"], eval_view: View, train_view: View, cache: bool):
        super().__init__(files, cache)
        self.label, self.eval_view, self.train_view = label, eval_view, train_view

    def example(self, place: int, augmented: bool) -> Example:
        image = (self.train_view if augmented else self.eval_view)(self.image(place))
        return {"image": image, "label": self.label[place]}


def class_folders(folder: Path) -> list[Path]:
    """Return the subfolders of a folder, sorted by name; hidden ones are skipped."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def check_size(size: int) -> None:
    """Raise InputError unless the image size is positive."""
    if size < 1:
        raise InputError(f"data.size must be at least 1 pixel, not {size}")


def count_workers(workers: int | None) -> int:
    """Return the number of data loader workers. Raises InputError if it is out of range."""
    if workers is None:
        return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if not 0 <= workers <= MAX_WORKERS:
        raise InputError(f"data.workers must be from 0 to {MAX_WORKERS}, but is {workers}")
    return workers
