"""Images from files, one after the other or in the processes of a data loader."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from bixt3d.datasets.images.transforms import normalize, seeded
from bixt3d.io.bounds import open_plain, printable
from bixt3d.io.extras import need
from bixt3d.types import InputError

Example = dict[str, Tensor]

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Of the names of image files, in small letters."""

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""What may be in them, whatever their name, as Pillow calls it."""

MOST_PIXELS, PIXELS_PER_BYTE = 40_000_000, 100
"""So many are always read; more where a file has the bytes for them."""


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, by name."""
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(ENDINGS) and name[0] != ".")
    return [folder / name for name in names]


def read_image(path: Path) -> Any:
    """Return an image as Pillow's, upright and in RGB whatever it was: grey of 8 or 16 bits, CMYK, see-through.

    Raises InputError if the file is no image, a broken one, or one of many more pixels than its bytes stand for.
    """
    with open_image(path) as image:
        return as_rgb(image)


@contextmanager
def open_image(path: Path) -> Iterator[Any]:
    """Open a picture of a known format with Pillow, which then reads its pixels; what is wrong is an InputError."""
    from PIL import Image, UnidentifiedImageError

    try:
        # by name, for among all that Pillow knows there are formats that start other programs
        with open_plain(path) as file, Image.open(file, formats=FORMATS) as image:
            stored = os.fstat(file.fileno()).st_size
            pixels, most = image.width * image.height, max(MOST_PIXELS, PIXELS_PER_BYTE * stored)
            if pixels > most:
                raise InputError(
                    f"{printable(path)} has {image.width} x {image.height} pixels in {stored} bytes: at most {most} "
                    "are read from so few"
                )
            image.load()
            yield image
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 (Pillow raises all kinds for broken files)
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "it is of no known format" if unknown else printable(" ".join(str(error).split()))
        raise InputError(f"{printable(path)} is not an image that can be read: {reason}") from error


def as_rgb(image: Any) -> Any:
    """Return one of Pillow's images in RGB, turned as its EXIF orientation says."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, of which Pillow would keep the lower ones
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    turn = exif_turn(image)
    upright = image if turn is None else image.transpose(turn)
    rgb = (upright.convert("RGBA") if "transparency" in upright.info else upright).convert("RGB")
    for key in ("exif", "xmp", "XML:com.adobe.xmp"):
        rgb.info.pop(key, None)  # done: nobody shall turn it again
    return rgb


def exif_turn(image: Any) -> Any:
    """Return how Pillow turns an image until it is as its camera was held; None: it is so already, or nobody says."""
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 (broken EXIF says nothing)
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
    """Return the pixels of many files, in one array where they have one size."""
    with ThreadPoolExecutor() as threads:
        pixels = list(threads.map(lambda path: np.asarray(read_image(path)), paths))
    if len({one.shape for one in pixels}) == 1:
        return np.stack(pixels)  # one block of memory, which the processes of a data loader share
    return pixels


class ExampleReader(Dataset, ABC):
    """Reads the examples of a set from its files; this much of a set travels to the processes of a data loader.

    Args:
        files: the images.
        cache: read all of them now, and keep them.
    """

    def __init__(self, files: Sequence[Path], cache: bool):
        self.files = np.array([os.fsencode(path) for path in files])  # a million names, which all processes share
        self.pixels = read_all(files) if cache else None

    def path(self, place: int) -> Path:
        """Return the file of an image."""
        return Path(os.fsdecode(self.files[place]))

    def image(self, place: int) -> Any:
        """Return an image as Pillow's."""
        from PIL import Image

        return read_image(self.path(place)) if self.pixels is None else Image.fromarray(self.pixels[place])

    @abstractmethod
    def example(self, place: int, augmented: bool) -> Example:
        """Return an example, ``image`` in bytes. Raises InputError for a broken file."""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int | None]) -> Example | str:
        """Return the example at a place, augmented as the seed says (None: as in evaluation).

        A fault is returned as its sentence: raised in a process of the data loader, it would come with its traceback.
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
    """Images of a set, read when they are needed.

    Args:
        reader: what reads them.
        label: the class of each image; 0 where images have none.
        class_names: what classes are called.
        workers: processes that read; 0: none.
        index: the places of the images in the reader.
        device: where batches go.
    """

    reader: ExampleReader
    label: Int[Tensor, " S"]
    class_names: tuple[str, ...]
    workers: int
    index: Int[Tensor, " S"]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self):
        need("a set of images", "torchvision", "PIL")

    def __len__(self) -> int:
        return len(self.index)

    def subset(self, index: Int[Tensor, " B"]) -> "ImageSet":
        """Return the set of these images alone, with the same names."""
        return replace(self, label=self.label[index.to(self.label.device)], index=self.index[index.cpu()])

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the same set, whose batches go to another device."""
        return replace(self, label=self.label.to(device), device=torch.device(device))

    def batches(self, indices: Iterable[Int[Tensor, " _"]], seed: int | None = None) -> Iterator[Example]:
        """Yield the batches of these images in order, ``image`` normalized; see `engine.loop.Examples`.

        How an image is augmented depends on the seed and its place in the reader alone. Raises InputError for an image
        that cannot be read.
        """
        indices = [index for index in indices if len(index)]
        if not indices:
            return
        places = self.index[torch.cat(indices).cpu()].split([len(index) for index in indices])
        loader = DataLoader(
            self.reader,
            batch_sampler=([(place, seed) for place in chunk.tolist()] for chunk in places),
            num_workers=self.workers if len(indices) > 1 else 0,
            collate_fn=collate,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from PyTorch's own
        )
        for parts in loader:
            if isinstance(parts, str):
                raise InputError(parts)
            for batch in parts:
                batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
                yield batch | {"image": normalize(batch["image"])}


def collate(examples: Sequence[Example | str]) -> list[Example] | str:
    """Return a batch of each run of images of the same size, or the first fault."""
    for example in examples:
        if isinstance(example, str):
            return example
    return [default_collate(list(run)) for _, run in groupby(examples, key=lambda example: example["image"].shape)]
