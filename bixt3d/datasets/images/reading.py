"""Reading images from files, in the main process or in the workers of a data loader."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from bixt3d.datasets.files.unread import other_files, unread_notes
from bixt3d.datasets.images.transforms import normalize, seeded
from bixt3d.io.bounds import open_plain, printable
from bixt3d.io.extras import need
from bixt3d.types import InputError

Example = dict[str, Tensor]

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""File extensions of images, in lower case."""

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""Image formats that are read, whatever the extension, by their names in Pillow."""

MAX_PIXELS, PIXELS_PER_BYTE = 40_000_000, 100
"""Limit of the size of an image: 40 million pixels, or 100 for each byte of its file if that is more."""


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name; hidden ones are skipped."""
    return [folder / name for name in sorted(os.listdir(folder)) if _is_image(name)]


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and name[0] != "."


def unread_images(folder: Path, read: Sequence[Path]) -> list[str]:
    """Return notes on what of a folder is not read; ``read``: it or those of its folders whose images are read."""
    others = [path for path in folder.iterdir() if folder not in read and not path.is_dir()]
    for own in read:
        others += [path for path in other_files(own, ()) if path.parent != own or not _is_image(path.name)]
    return unread_notes(folder, others, ENDINGS)


def read_image(path: Path) -> Any:
    """Return a file as a Pillow image in RGB, turned upright by its EXIF orientation.

    Grayscale of 8 or 16 bits, CMYK, palettes and transparency are converted. Raises InputError if the file is not an
    image, is damaged, or has far more pixels than its bytes justify.
    """
    with open_image(path) as image:
        return as_rgb(image)


@contextmanager
def open_image(path: Path) -> Iterator[Any]:
    """Open an image with Pillow and decode it. Raises InputError if that fails."""
    from PIL import Image, UnidentifiedImageError

    try:
        # only these formats: for others, such as EPS, Pillow starts other programs
        with open_plain(path) as file, Image.open(file, formats=FORMATS) as image:
            stored = os.fstat(file.fileno()).st_size
            pixels, most = image.width * image.height, max(MAX_PIXELS, PIXELS_PER_BYTE * stored)
            if pixels > most:
                raise InputError(
                    f"{printable(path)} has {image.width} x {image.height} pixels in {stored} bytes: at most {most} "
                    "are read from so few"
                )
            image.load()
            yield image
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 (Pillow raises many types for damaged files)
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "it is of no known format" if unknown else printable(" ".join(str(error).split()))
        raise InputError(f"{printable(path)} is not an image that can be read: {reason}") from error


def as_rgb(image: Any) -> Any:
    """Return a Pillow image in RGB, turned upright by its EXIF orientation."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, of which convert("RGB") would keep the lower 8
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    turn = exif_turn(image)
    upright = image if turn is None else image.transpose(turn)
    rgb = (upright.convert("RGBA") if "transparency" in upright.info else upright).convert("RGB")
    for key in ("exif", "xmp", "XML:com.adobe.xmp"):
        rgb.info.pop(key, None)  # it must not be turned twice
    return rgb


def exif_turn(image: Any) -> Any:
    """Return the Pillow transpose that turns an image upright by its EXIF orientation; None if there is none to do."""
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 (damaged EXIF is ignored)
        return None
    turns = Image.Transpose
    return {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)


def read_all(paths: Sequence[Path]) -> UInt8[np.ndarray, "S X Y 3"] | list[UInt8[np.ndarray, "_ _ 3"]]:
    """Return the pixels of many files, in one array if they are all of the same size."""
    with ThreadPoolExecutor() as threads:
        pixels = list(threads.map(lambda path: np.asarray(read_image(path)), paths))
    if len({one.shape for one in pixels}) == 1:
        return np.stack(pixels)  # one block of memory, which the data loader workers share
    return pixels


class ExampleReader(Dataset, ABC):
    """Reads the samples of a set from its files: the map-style data set that data loader workers get.

    Args:
        files: paths of the images.
        cache: decode all of them now, and keep them in memory.
    """

    def __init__(self, files: Sequence[Path], cache: bool):
        self.files = np.array(
            [os.fsencode(path) for path in files]
        )  # one array: a list of a million paths would be copied to each worker
        self.pixels = read_all(files) if cache else None

    def path(self, place: int) -> Path:
        """Return the path of an image."""
        return Path(os.fsdecode(self.files[place]))

    def image(self, place: int) -> Any:
        """Return a Pillow image."""
        from PIL import Image

        return read_image(self.path(place)) if self.pixels is None else Image.fromarray(self.pixels[place])

    @abstractmethod
    def example(self, place: int, augmented: bool) -> Example:
        """Return a sample, its ``image`` as uint8. Raises InputError for a damaged file."""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int | None]) -> Example | str:
        """Return the sample at an index, augmented by the seed (None: as in evaluation).

        An error is returned as its message: raised in a data loader worker, it would come with a traceback.
        """
        place, seed = key
        try:
            if seed is None:
                return self.example(place, augmented=False)
            with seeded("image", seed, place):
                return self.example(place, augmented=True)
        except InputError as error:
            return str(error)


@dataclass(frozen=True)
class ImageSet:
    """A set of images, which are read from their files batch by batch.

    Args:
        reader: data set that reads the samples.
        label: class of each image; 0 if images have none (segmentation).
        class_names: names of the classes.
        workers: data loader processes; 0: read in the main process.
        index: indices of the images in the reader.
        device: device of the batches.
        notes: what of the folder is not read.
    """

    reader: ExampleReader
    label: Int[Tensor, " S"]
    class_names: tuple[str, ...]
    workers: int
    index: Int[Tensor, " S"]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        need("a set of images", "torchvision", "PIL")

    def __len__(self) -> int:
        return len(self.index)

    def subset(self, index: Int[Tensor, " B"]) -> "ImageSet":
        """Return the set of these images, with the same class names."""
        return replace(self, label=self.label[index.to(self.label.device)], index=self.index[index.cpu()])

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the same set with its batches on another device."""
        return replace(self, label=self.label.to(device), device=torch.device(device))

    def batches(self, indices: Iterable[Int[Tensor, " _"]], seed: int | None = None) -> Iterator[Example]:
        """Yield a batch for each index tensor, in order, ``image`` normalized; see `engine.loop.Examples`.

        The augmentation of an image depends only on the seed and on its index in the reader. Raises InputError for an
        image that cannot be read.
        """
        indices = [index for index in indices if len(index)]
        if not indices:
            return
        numbers, size = torch.cat(indices).cpu(), len(self.index)  # beyond the size: further passes over the set
        places = self.index[numbers % size].tolist()
        seeds = [None if seed is None else seed + again for again in (numbers // size).tolist()]
        pairs, lengths = iter(zip(places, seeds, strict=True)), [len(index) for index in indices]
        loader = DataLoader(
            self.reader,
            batch_sampler=(list(islice(pairs, length)) for length in lengths),
            num_workers=self.workers if len(indices) > 1 else 0,
            collate_fn=collate,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from PyTorch's global generator
        )
        for batches in loader:
            if isinstance(batches, str):
                raise InputError(batches)
            for batch in batches:
                batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
                yield batch | {"image": normalize(batch["image"])}


def collate(examples: Sequence[Example | str]) -> list[Example] | str:
    """Return a batch for each run of consecutive images of the same size, or the first error message."""
    for example in examples:
        if isinstance(example, str):
            return example
    return [default_collate(list(run)) for _, run in groupby(examples, key=lambda example: example["image"].shape)]
