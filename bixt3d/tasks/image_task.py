"""What tasks on images share: sets that are augmented by what reads them, and other weights to start from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from bixt3d.datasets.images.reading import ImageSet
from bixt3d.datasets.images.transforms import to_pixels
from bixt3d.engine.loop import Batch
from bixt3d.tasks.task import Task, Train


@dataclass
class ImageTrain(Train):
    """How long and on what.

    Args:
        epochs: passes over the training set.
        batch_size: images for each update, over all processes, at most: those of an epoch are nearly equal.
        eval_batch_size: images at a time in evaluation; changes no result.
        label_smoothing: probability spread over all classes.
        eval_every: evaluate after every so many epochs, and after the last.
        steps: updates of the whole run, in place of epochs; the last epoch ends where they do.
        init: an earlier run, its folder or its weights, or a .pth of the authors, to start from: takes what fits.
    """


class ImageTask(Task):
    """A question asked of images."""

    unit = "images"
    votes = False
    less_data = "use --data.cache false"

    def load(self, run: Any) -> tuple[ImageSet, ImageSet]:
        return run.data.load(run.augment)

    def make_augment(self, run: Any, train: ImageSet, epoch: int) -> Callable[[Batch, int], Batch]:
        return lambda batch, step: batch  # images are augmented where they are read


def pictures(images: ImageSet, index: list[int]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Return the pixels of some images of a set, as evaluation sees them."""
    some = images.subset(torch.tensor(index, dtype=torch.int64))
    return [to_pixels(image) for batch in some.batches([torch.arange(len(index))]) for image in batch["image"]]
