"""Base class of the image tasks, whose data sets augment images as they load them."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import UInt8

from bixt3d.datasets.images.reading import ImageSet
from bixt3d.datasets.images.transforms import to_pixels
from bixt3d.engine.loop import Batch
from bixt3d.tasks.settings import Run
from bixt3d.tasks.task import Task


class ImageTask(Task):
    """A task on images."""

    unit = "images"
    votes = False
    less_data = "use --data.cache false"

    def load(self, run: Run) -> tuple[ImageSet, ImageSet]:
        return run.data.load(run.augment)

    def make_augment(self, run: Run, train: ImageSet, epoch: int) -> Callable[[Batch, int], Batch]:
        return lambda batch, step: batch  # images are augmented when they are loaded


def pixels_of(images: ImageSet, index: list[int]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Return the pixels of some images of a set, as used in evaluation."""
    some = images.subset(torch.tensor(index, dtype=torch.int64))
    return [to_pixels(image) for batch in some.batches([torch.arange(len(index))]) for image in batch["image"]]
