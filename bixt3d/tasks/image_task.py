"""What tasks on images share: sets that are augmented by what reads them, and other weights to start from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from bixt3d.datasets.images.reading import ImageSet
from bixt3d.datasets.images.transforms import to_pixels
from bixt3d.engine.loop import Batch
from bixt3d.tasks.settings import Run, Train
from bixt3d.tasks.start_weights import start_from
from bixt3d.tasks.task import Task


@dataclass
class ImageTrain(Train):
    """How long and on what.

    Args:
        init: weights to start from: the folder of an earlier run, its weights, or a .pth of the authors.
    """

    init: str | None = None


class ImageTask(Task):
    """A question asked of images."""

    unit = "images"
    votes = False
    less_data = "use --data.cache false"

    def load(self, run: Run) -> tuple[ImageSet, ImageSet]:
        return run.data.load(run.augment)

    def make_augment(self, run: Run, train: ImageSet, epoch: int) -> Callable[[Batch, int], Batch]:
        return lambda batch, step: batch  # images are augmented where they are read

    def start_weights(self, module: nn.Module, run: Run) -> str | None:
        return None if run.train.init is None else start_from(module, Path(run.train.init))


def pictures(images: ImageSet, index: list[int]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Return the pixels of some images of a set, as evaluation sees them."""
    some = images.subset(torch.tensor(index, dtype=torch.int64))
    return [to_pixels(image) for batch in some.batches([torch.arange(len(index))]) for image in batch["image"]]
