"""Semantic segmentation of images: the base class, and the layout of ADE20K (SceneParse150)."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from bixt3d.datasets.images.folder import check_size, count_workers
from bixt3d.datasets.images.reading import Example, ExampleReader, ImageSet, image_files, open_image, unread_images
from bixt3d.datasets.images.transforms import SegmentationAugment
from bixt3d.io.bounds import LIST_BYTES, check_names, read_words
from bixt3d.types import InputError


class SegmentationSource(ABC):
    """Base class of data sets for semantic segmentation of images: derive from it and define `load`.

    A config names the class as ``data.class_path``. Evaluation uses whole images at their own size.

    Args:
        root: folder of the data.
        size: side in pixels of the square crops in training.
        val_fraction: share of the training images split off for validation (0: none).
        workers: data loader processes; 0: read in the main process, null: one for each CPU, at most 4.
        cache: decode all images once and keep them in memory.
    """

    def __init__(
        self,
        root: str,
        size: int = 512,
        val_fraction: float = 0.0,
        workers: int | None = None,
        cache: bool = False,
    ):
        check_size(size)
        self.root, self.size, self.val_fraction = Path(root), size, val_fraction
        self.workers, self.cache = count_workers(workers), cache

    @abstractmethod
    def load(self, augment: SegmentationAugment | None = None) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test set. Raises InputError if the data are missing or damaged.

        ``augment`` is applied to training images only; None: whole images, not augmented.
        """


class SceneParse(SegmentationSource):
    """ADE20K (SceneParse150), and any data set in its layout.

    Images are ``images/training/*.jpg`` and ``images/validation/*.jpg`` (the test set). Their annotations have the
    same names under ``annotations/``, as .png: each pixel is its class, from 1, or 0 for unlabelled.
    ``objectInfo150.txt`` or ``objectInfo.txt`` names the classes, in tab-separated columns ``Idx`` and ``Name``.
    The arguments are those of `SegmentationSource`.
    """

    def load(self, augment: SegmentationAugment | None = None) -> tuple[ImageSet, ImageSet]:
        names = self._class_names()
        train, test = self._read("training", names, augment), self._read("validation", names, None)
        folders = (self.root / "images" / split for split in ("training", "validation"))
        notes = tuple(f"images/{folder.name}: {note}" for folder in folders for note in unread_images(folder, [folder]))
        return replace(train, notes=notes), replace(test, notes=notes)

    def _class_names(self) -> tuple[str, ...]:
        for path in (self.root / "objectInfo150.txt", self.root / "objectInfo.txt"):
            if path.is_file():
                return read_class_names(path)
        raise InputError(
            f"{self.root / 'objectInfo150.txt'} is missing: it names the classes, see `bixt3d download --layouts`"
        )

    def _read(self, split: str, names: tuple[str, ...], augment: SegmentationAugment | None) -> ImageSet:
        folder, annotations = self.root / "images" / split, self.root / "annotations" / split
        for needed in (folder, annotations):
            if not needed.is_dir():
                raise InputError(f"{needed} is missing: see `bixt3d download --layouts`")
        files = image_files(folder)
        if not files:
            raise InputError(f"{folder} contains no images")
        found = {path.stem: path for path in sorted(annotations.iterdir()) if path.suffix.lower() == ".png"}
        if missing := next((path for path in files if path.stem not in found), None):
            raise InputError(f"{annotations / missing.stem}.png is missing: {missing} has no annotation")
        annotated = [found[path.stem] for path in files]
        reader = SegmentationReader(files, annotated, len(names), self.size, augment, self.cache)
        return ImageSet(
            reader,
            label=torch.zeros(len(files), dtype=torch.int64),  # images have none: a validation split draws from all
            class_names=names,
            workers=self.workers,
            index=torch.arange(len(files)),
        )


class SegmentationReader(ExampleReader):
    """Reads samples ``image`` and ``labels``: the class of each pixel from 0, -1 for unlabelled pixels."""

    def __init__(
        self,
        files: Sequence[Path],
        annotations: Sequence[Path],
        num_classes: int,
        size: int,
        augment: SegmentationAugment | None,
        cache: bool,
    ):
        super().__init__(files, cache)
        self.annotations = np.array([os.fsencode(path) for path in annotations])  # one array, as for the images
        self.num_classes, self.size, self.augment = num_classes, size, augment
        self.numbers = [self._read_numbers(place) for place in range(len(files))] if cache else None

    def example(self, place: int, augmented: bool) -> Example:
        from torchvision.transforms.v2.functional import pil_to_tensor

        image = self.image(place)
        numbers = self._read_numbers(place) if self.numbers is None else self.numbers[place]
        if numbers.shape != (image.height, image.width):
            raise InputError(
                f"{self._annotation(place)} has {numbers.shape[1]} x {numbers.shape[0]} pixels, but its image "
                f"{self.path(place)} has {image.width} x {image.height}, upright as its EXIF orientation says"
            )
        if augmented and self.augment:
            pixels, cut = self.augment(image, numbers, self.size)
            return {"image": pixels, "labels": cut.long() - 1}
        return {"image": pil_to_tensor(image), "labels": torch.from_numpy(numbers).long() - 1}

    def _annotation(self, place: int) -> Path:
        return Path(os.fsdecode(self.annotations[place]))

    def _read_numbers(self, place: int) -> UInt8[np.ndarray, "X Y"]:
        return read_annotation(self._annotation(place), self.num_classes)


def read_annotation(path: Path, num_classes: int) -> UInt8[np.ndarray, "X Y"]:
    """Return the class of every pixel: 1 to ``num_classes``, 0: unlabelled. Raises InputError for other values."""
    with open_image(path) as picture:
        numbers = np.array(picture)
    if numbers.ndim != 2:
        raise InputError(f"{path} is a color image: an annotation has one number for each pixel")
    if numbers.max() > num_classes or numbers.min() < 0:
        worst = int(numbers.max() if numbers.max() > num_classes else numbers.min())
        raise InputError(
            f"{path} has pixels of class {worst}, but there are the classes 1 to {num_classes}, and 0: none"
        )
    return numbers.astype(np.uint8)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes in order; of several synonyms the first, if no other class has it.

    Raises InputError unless the file numbers its classes, 255 at most, from 1 in a column ``Idx`` and names them in
    ``Name``.
    """
    lines = [line.split("\t") for line in read_words(path, LIST_BYTES).splitlines() if line.strip()]
    head = [word.strip() for word in lines[0]] if lines else []
    if "Idx" not in head or "Name" not in head:
        raise InputError(f"{path} must begin with a line that names columns Idx and Name, with tabs between")
    place, name = head.index("Idx"), head.index("Name")
    rows = [[word.strip() for word in line] for line in lines[1:]]
    numbers = [row[place] for row in rows if len(row) > max(place, name) and row[name]]
    if not 0 < len(rows) < 256 or numbers != [str(number) for number in range(1, len(rows) + 1)]:
        raise InputError(f"{path} must number its classes 1, 2, 3 and so on, up to 255, with a name behind each")
    full = [row[name] for row in rows]
    short = [words.replace(";", ",").split(",")[0].strip() for words in full]
    check_names(full, path)
    return tuple(one if short.count(one) == 1 else words for one, words in zip(short, full, strict=True))
