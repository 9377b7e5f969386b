"""Types that all packages of bixt3d share: point features, tokens, sets of clouds, and the errors meant for users.

Dimension letters in shapes: B batch, S clouds in a set, N points, P axes of a position, F feature columns of a point,
G groups (centroids), K neighbors of a group, T tokens, L latents, D width, H heads, E width of a head.
Images: X rows and Y columns of pixels, C classes.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.errors import InputError as InputError
from bixt3d.errors import Stopped as Stopped
from bixt3d.errors import check_tensors

Kind = Literal["normal", "color", "scalar"]

ALIASES = {"normals": "normal", "color": "rgb", "colors": "rgb", "colour": "rgb", "colours": "rgb"}
"""Other names of features, in lower case, and the names that are used here."""


def feature_name(name: str) -> str:
    """Return the standard name of a feature, column or attribute: ``rgb`` for ``Colors``."""
    name = name.strip().lower()
    return ALIASES.get(name, name)


@dataclass(frozen=True)
class Feature:
    """A named feature of points. Its kind, never its width, decides how augmentation and scaling treat it.

    Args:
        name: lower case, such as ``normal``, ``rgb`` or ``intensity``.
        kind: ``normal``: a direction of length 1, which rotates with its cloud; ``color``: three numbers from 0 to 1;
            ``scalar``: any number of columns that augmentation does not change, such as intensity.
        width: number of columns.
    """

    name: str
    kind: Kind
    width: int

    @classmethod
    def parse(cls, text: str) -> "Feature":
        """Return the feature that ``name``, ``name:width`` or ``name:kind`` describes (see `Features`)."""
        name, _, detail = (part.strip() for part in text.lower().partition(":"))
        name = feature_name(name)
        if not re.fullmatch(r"[a-z]\w*", name, re.ASCII) or name in ("x", "y", "z", "xyz"):
            raise InputError(f"{text[:80]!r} is not a feature: write its name, such as normal, rgb or intensity")
        if detail.isdecimal() and int(detail) > 0:
            return cls(name, "scalar", int(detail))
        kind = detail or {"normal": "normal", "rgb": "color"}.get(name, "scalar")
        if kind not in get_args(Kind):
            raise InputError(f"feature {text[:80]!r}: after the colon comes a width, or {', '.join(get_args(Kind))}")
        return cls(name, kind, 1 if kind == "scalar" else 3)

    def __str__(self) -> str:
        for text in (self.name, f"{self.name}:{self.kind}"):
            if Feature.parse(text) == self:
                return text
        return f"{self.name}:{self.width}"


@dataclass(frozen=True)
class Features:
    """The features of points, in the order of the columns of ``feats``.

    Written as text: names separated by commas, such as ``normal,rgb,intensity``. ``normal`` is a normal, ``rgb`` or
    ``color`` a color, any other name a scalar of width 1; ``fpfh:33`` is a scalar of width 33, ``albedo:color`` a color
    with another name. Upper and lower case are the same.

    Example:
        >>> features = Features.parse("normal,rgb,intensity")
        >>> features.width, features.slices("color")
        (7, [slice(3, 6, None)])
    """

    columns: tuple[Feature, ...] = ()

    @classmethod
    def parse(cls, text: "str | Features | None") -> "Features":
        """Return the features that a text names; no features for None or "". Raises InputError for a wrong text."""
        if isinstance(text, Features):
            return text
        if text is not None and not isinstance(text, str):
            raise InputError(f"features are written as text, such as 'normal,rgb', not as {text!r:.80}")
        features = cls(tuple(Feature.parse(part) for part in (text or "").split(",") if part.strip()))
        if len(set(features.names)) < len(features.names):
            raise InputError(f"features {text!r} contain a name twice")
        return features

    @classmethod
    def of(cls, model: object) -> "Features":
        """Return the features that a model reads: its attribute ``features``, parsed if it is text; none without it."""
        found = getattr(model, "features", None)
        return cls.parse(found) if isinstance(found, str | cls) else cls()

    def __str__(self) -> str:
        return ",".join(map(str, self.columns))

    def __bool__(self) -> bool:
        return bool(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(feature.name for feature in self.columns)

    @property
    def width(self) -> int:
        """The number of columns of ``feats``."""
        return sum(feature.width for feature in self.columns)

    def slices(self, *kinds: Kind) -> list[slice]:
        """Return the column slice of each feature of these kinds (of every feature, if no kind is given)."""
        found, first = [], 0
        for feature in self.columns:
            if not kinds or feature.kind in kinds:
                found.append(slice(first, first + feature.width))
            first += feature.width
        return found

    def take(self, feats: Float[Tensor, "*N F"], name: str) -> Float[Tensor, "*N W"]:
        """Return the columns of the named feature. Raises InputError for an unknown name."""
        if name not in self.names:
            raise InputError(f"there is no feature '{name}' (there are: {self or 'none'})")
        return feats[..., self.slices()[self.names.index(name)]]

    def apply(
        self, feats: Float[Tensor, "*N F"], kind: Kind, function: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "*N F"]:
        """Return feats with a function applied to each feature of a kind; other columns are unchanged."""
        own, every = self.slices(kind), self.slices()
        return torch.cat([function(feats[..., s]) if s in own else feats[..., s] for s in every], -1) if own else feats

    def check(self, xyz: Tensor, feats: Tensor | None) -> Tensor:
        """Check the inputs of a model that reads these features; return feats, of width 0 if None.

        Raises InputError for a wrong shape of xyz (B, N, 3) or feats (B, N, F), or a wrong number of feature columns.
        """
        check_tensors(xyz=xyz, feats=xyz if feats is None else feats)
        if xyz.ndim != 3 or xyz.shape[2] != 3:
            turned = xyz.ndim == 3 and xyz.shape[1] == 3
            advice = ": coordinates come last, so give xyz.transpose(1, 2)" if turned else ""
            raise InputError(f"clouds have the shape (B, N, 3), not {tuple(xyz.shape)}{advice}")
        feats = xyz[..., :0] if feats is None else feats
        if feats.ndim != 3 or feats.shape[:2] != xyz.shape[:2]:
            raise InputError(
                f"feats have the shape (B, N, F) with the B and N of xyz, whose shape is {tuple(xyz.shape)}, not "
                f"{tuple(feats.shape)}"
            )
        if feats.shape[2] != self.width:
            raise InputError(
                f"this model reads {self or 'no features'} ({self.width} columns), but was given feats of "
                f"{feats.shape[2]} columns"
            )
        return feats


NO_FEATURES = Features()


@dataclass(frozen=True)
class Tokens:
    """What the encoder reads: a feature vector and a position for every point, group or patch.

    Args:
        feats: one feature vector for each token.
        pos: xyz of a point or centroid, (row, column) of an image patch.
        neighbor_index: the k nearest tokens of every token, closest first, or None before the first search. Positions
            do not change between layers, so all layers reuse one search.
        grid: (rows, columns) of image patches, which are in row-major order; None for points.
    """

    feats: Float[Tensor, "B T D"]
    pos: Float[Tensor, "B T P"]
    neighbor_index: Int[Tensor, "B T K"] | None = None
    grid: tuple[int | torch.SymInt, int | torch.SymInt] | None = None


VOID = -1  # part index of points without a label, which losses and scores leave out

Pyramid = tuple[Tokens, ...]
"""Levels of tokens, finest first. Most tokenizers return one level."""


@dataclass(frozen=True)
class CloudSet:
    """A data set in memory: clouds with the same number of points.

    Args:
        xyz, feats: coordinates, and feature columns (width 0 if there are none).
        label, class_names: class index of each cloud, and names of the classes.
        parts, part_names: part index of each point (`VOID`: none), and names of the parts, for part segmentation.
        class_parts: part indices of each class, by class name.
        features: names and kinds of the columns of ``feats``.

    Example:
        >>> clouds = CloudSet(torch.rand(8, 128, 3), torch.empty(8, 128, 0), torch.arange(8) % 2, ("cup", "mug"))
        >>> clouds[torch.tensor([1, 2])]["label"]
        tensor([1, 0])
    """

    xyz: Float[Tensor, "S N 3"]
    feats: Float[Tensor, "S N F"]
    label: Int[Tensor, " S"]
    class_names: tuple[str, ...]
    parts: Int[Tensor, "S N"] | None = None
    part_names: tuple[str, ...] = ()
    class_parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    features: Features = NO_FEATURES
    notes: tuple[str, ...] = ()
    """Assumptions made when the set was read, which training prints."""

    def __post_init__(self):
        if self.feats.shape[2] != self.features.width:
            raise InputError(
                f"feats have {self.feats.shape[2]} columns, but the features of the set "
                f"({self.features or 'none'}) take {self.features.width}"
            )

    def __len__(self) -> int:
        return self.xyz.shape[0]

    def __getitem__(self, index: Int[Tensor, " B"]) -> dict[str, Tensor]:
        """Return the batch of these clouds: ``xyz``, ``feats``, ``label`` and, if there are any, ``parts``."""
        batch = {"xyz": self.xyz[index], "feats": self.feats[index], "label": self.label[index]}
        return batch if self.parts is None else batch | {"parts": self.parts[index]}

    def batches(self, indices: Iterable[Int[Tensor, " _"]], seed: int | None = None) -> Iterator[dict[str, Tensor]]:
        """Yield the batch of each index tensor, modulo the size; ``batch["index"]`` seeds each sample's augmentation.

        ``seed`` has no effect here: image sets, which augment while they read files, need it.
        """
        return (self[index % len(self)] | {"index": index} for index in indices)

    def subset(self, index: Int[Tensor, " B"]) -> "CloudSet":
        """Return a set of the clouds with these indices."""
        return replace(self, **self[index])

    def to(self, device: torch.device | str) -> "CloudSet":
        """Return the same set on another device."""
        parts = None if self.parts is None else self.parts.to(device)
        tensors = {name: getattr(self, name).to(device) for name in ("xyz", "feats", "label")}
        return replace(self, **tensors, parts=parts)
