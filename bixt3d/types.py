"""What the rooms of the house hand to each other: tokens, cloud sets, and the error that a user can mend.

Dimension letters: B batch, S clouds in a set, N points, P axes of a position, F features of a point,
G groups (centroids), K neighbors of a group, T tokens, L latents, D width, H heads, E width of a head.
Of images: X rows and Y columns of pixels, C classes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


class InputError(ValueError):
    """Something that the user gave is wrong; the message is one sentence that says what to do about it.

    Programs in ``tools/`` print it without a traceback and end with exit code 2.
    """


class Stopped(KeyboardInterrupt):
    """A signal ended the program; the message, if any, says what is safe and how to go on.

    ``code`` is the exit code: 128 plus the number of the signal, or 0 for a process that the first one speaks for.
    """

    def __init__(self, number: int, message: str = "", code: int | None = None):
        super().__init__(message)
        self.number, self.code = number, 128 + number if code is None else code


@dataclass(frozen=True)
class Tokens:
    """What the encoder reads: a vector and a position for every point, group or patch.

    ``neighbor_index`` holds the nearest tokens of every token, closest first, once somebody has searched for them:
    positions do not change from layer to layer, so one search serves them all. ``grid`` is the number of rows and of
    columns where the tokens are the patches of an image, row after row.
    """

    feats: Float[Tensor, "B T D"]
    pos: Float[Tensor, "B T P"]
    neighbor_index: Int[Tensor, "B T K"] | None = None
    grid: tuple[int, int] | None = None


Pyramid = tuple[Tokens, ...]
"""Levels of tokens, finest first; a flat tokenizer returns one."""


@dataclass(frozen=True)
class CloudSet:
    """Clouds of one size in memory. ``feats`` has width 0 where there are none, 3 where they are normals."""

    xyz: Float[Tensor, "S N 3"]
    feats: Float[Tensor, "S N F"]
    label: Int[Tensor, " S"]
    class_names: tuple[str, ...]
    parts: Int[Tensor, "S N"] | None = None
    part_names: tuple[str, ...] = ()
    class_parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.xyz.shape[0]

    def __getitem__(self, index: Int[Tensor, " B"]) -> dict[str, Tensor]:
        """Return the batch of these clouds: ``xyz``, ``feats``, ``label`` and, where known, ``parts``."""
        batch = {"xyz": self.xyz[index], "feats": self.feats[index], "label": self.label[index]}
        return batch if self.parts is None else batch | {"parts": self.parts[index]}

    def batches(self, indices: Iterable[Int[Tensor, " _"]], seed: int | None = None) -> Iterator[dict[str, Tensor]]:
        """Yield the batch of each index; ``seed`` is for sets that augment as they read, which clouds do not."""
        return (self[index] for index in indices)

    def subset(self, index: Int[Tensor, " B"]) -> "CloudSet":
        """Return the set of these clouds alone, with the same names."""
        return replace(self, **self[index])

    def to(self, device: torch.device | str) -> "CloudSet":
        """Return the same set on another device."""
        parts = None if self.parts is None else self.parts.to(device)
        tensors = {name: getattr(self, name).to(device) for name in ("xyz", "feats", "label")}
        return replace(self, **tensors, parts=parts)
