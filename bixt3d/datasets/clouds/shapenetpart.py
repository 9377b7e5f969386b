"""ShapeNetPart as text files with normals: 16 categories, 50 parts, a different number of points in each shape."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from bixt3d.datasets.clouds.cache import (
    are_clouds,
    are_finite,
    are_within,
    cache_folder,
    cached,
    check_stored,
    short_hash,
    stamp,
)
from bixt3d.datasets.clouds.mapped import Allocate, Tensors
from bixt3d.datasets.clouds.reading import check_once, read_json
from bixt3d.datasets.clouds.source import PartSource, only_normals
from bixt3d.datasets.download.archives import missing_data
from bixt3d.datasets.files.feature_columns import unit_normals
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.io.bounds import check_names, printable, read_plain
from bixt3d.types import CloudSet, InputError

CATEGORIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "Airplane": ("02691156", ("body", "wing", "tail", "engine")),
    "Bag": ("02773838", ("handle", "body")),
    "Cap": ("02954340", ("crown", "visor")),
    "Car": ("02958343", ("roof", "hood", "wheel", "body")),
    "Chair": ("03001627", ("back", "seat", "leg", "arm")),
    "Earphone": ("03261776", ("earcup", "headband", "wire")),
    "Guitar": ("03467517", ("head", "neck", "body")),
    "Knife": ("03624134", ("blade", "handle")),
    "Lamp": ("03636649", ("base", "shade", "bracket", "stem")),
    "Laptop": ("03642806", ("keyboard", "screen")),
    "Motorbike": ("03790512", ("gas tank", "seat", "wheel", "handlebar", "light", "frame")),
    "Mug": ("03797390", ("handle", "body")),
    "Pistol": ("03948459", ("barrel", "handle", "trigger")),
    "Rocket": ("04099429", ("body", "fin", "nose")),
    "Skateboard": ("04225987", ("wheel", "deck", "belt")),
    "Table": ("04379243", ("top", "leg", "drawer")),
}
"""Synset and parts of each category. The data set only numbers its parts; these names are in common use."""

PART_NAMES = tuple(f"{category}/{part}" for category, (_, parts) in CATEGORIES.items() for part in parts)
CLASS_PARTS = {
    category: tuple(PART_NAMES.index(f"{category}/{part}") for part in parts)
    for category, (_, parts) in CATEGORIES.items()
}
CLASS_OF_SYNSET = {synset: category for category, (synset, _) in CATEGORIES.items()}


class ShapeNetPart(PartSource):
    """ShapeNetPart's text files, read once and then cached; always all 16 categories and 50 parts.

    A shape is normalized with all its points; then a random subset of them is drawn, which depends only on
    ``sample_seed`` and the shape. PointMLP draws 2048 points with replacement; here points repeat only if a shape has
    fewer than ``stored_points``.

    Args:
        root: folder with ``synsetoffset2category.txt``, ``train_test_split`` and a folder of text files per category.
        num_points: points of each cloud that the model sees.
        features: ``normal``: the model reads the surface normals too.
        val_fraction: share of the training clouds of each class split off for validation (0: none).
        stored_points: random points cached for each shape, with repetitions if it has fewer.
        include_val: train on the official validation shapes too, as PointMLP does.
        sample_seed: seed of the random subset of points.
    """

    def __init__(
        self,
        root: str = "data/shapenetcore_partanno_segmentation_benchmark_v0_normal",
        num_points: int = 2048,
        features: str = "",
        val_fraction: float = 0.0,
        stored_points: int = 2048,
        include_val: bool = True,
        sample_seed: int = 0,
    ):
        super().__init__(num_points, features, val_fraction)
        if sample_seed < 0:
            raise InputError(f"sample_seed must not be negative, not {sample_seed}")
        self.root, self.stored_points, self.include_val = root, stored_points, include_val
        self.sample_seed = sample_seed

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, in the order of the lists; validation shapes come last."""
        check_stored(self.num_points, self.stored_points)
        return self._drawn("train", "val") if self.include_val else self._drawn("train"), self._drawn("test")

    def full_clouds(self) -> Iterator[tuple[Float[Tensor, "N 3"], Float[Tensor, "N F"], Int[Tensor, " N"]]]:
        """Yield xyz, feats and parts of every test shape with all points of its file."""
        for _, points, parts in self._originals("test"):
            yield points[:, :3], points[:, 3 : 3 + self.features.width], parts.long()

    def _drawn(self, *splits: str) -> CloudSet:
        """Return the set of the points drawn from every shape."""
        shapes = [shape for split in splits for shape in self._listed(split)]
        if not shapes:
            lists = " and ".join(f"shuffled_{split}_file_list.json" for split in splits)
            advice = ", or set --data.include_val true" if splits == ("train",) else ""
            raise InputError(f"there are no shapes in {lists} of {self.root}: fetch the whole set{advice}")
        shape = (len(shapes), self.stored_points)

        def fits(tensors: Tensors) -> bool:
            parts = tensors["parts"]
            return are_clouds(tensors, shape) and parts.shape == shape and _are_parts(parts, torch.int64)

        path = self._cache(f"{'_'.join(splits)}_{self.stored_points}_points", shapes, str(self.sample_seed))
        found = cached(path, partial(self._draw, splits, shape), fits, stamp(self._texts(shapes)))
        label = torch.tensor([_class_number(shape) for shape in shapes])
        feats = found["normal"][..., : self.features.width]
        sizes = (found["parts"], PART_NAMES, CLASS_PARTS)
        return CloudSet(found["xyz"], feats, label, tuple(CLASS_PARTS), *sizes, self.features)

    def _draw(self, splits: Sequence[str], shape: tuple[int, int], allocate: Allocate) -> None:
        vectors = (torch.float32, (*shape, 3))
        tensors = allocate({"xyz": vectors, "normal": vectors, "parts": (torch.int64, shape)})
        xyz, normal, parts = (tensors[name] for name in ("xyz", "normal", "parts"))
        originals = chain.from_iterable(map(self._originals, splits))
        for place, (name, its_points, its_parts) in enumerate(originals):
            rng = np.random.default_rng([self.sample_seed, int(short_hash(name), 16)])
            once = rng.permutation(len(its_points))[: self.stored_points]
            again = rng.integers(len(its_points), size=self.stored_points - len(once))
            index = torch.from_numpy(np.concatenate([once, again]))
            xyz[place], normal[place] = its_points[index].split(3, dim=1)
            parts[place] = its_parts[index]

    def _originals(self, split: str) -> Iterator[tuple[str, Float[Tensor, "N 6"], UInt8[Tensor, " N"]]]:
        """Yield the name ``synset/shape``, the points with normals, and the parts of every shape of a split."""
        shapes = self._listed(split)
        if not shapes:
            return
        texts = self._texts(shapes)
        build = partial(_read_texts, texts)
        stored = cached(self._cache(split, shapes), build, lambda found: _fits(found, len(shapes)), stamp(texts))
        sizes = stored["sizes"].tolist()
        yield from zip(shapes, stored["points"].split(sizes), stored["parts"].split(sizes), strict=True)

    def _listed(self, split: str) -> list[str]:
        root = Path(self.root).expanduser()
        if not (root / "synsetoffset2category.txt").is_file():
            raise missing_data(root, "synsetoffset2category.txt", "shapenetpart", "shapes_partseg")
        only_normals(self.features, self.root)
        return _read_list(root / f"train_test_split/shuffled_{split}_file_list.json")

    def _texts(self, shapes: Sequence[str]) -> list[Path]:
        return [Path(self.root).expanduser() / f"{shape}.txt" for shape in shapes]

    def _cache(self, name: str, shapes: Sequence[str], *drawn: str) -> Path:
        folder = cache_folder(Path(self.root).expanduser())
        return folder / f"bixt3d_shapenetpart_{name}_{short_hash(*shapes, *drawn)}.safetensors"


def _class_number(shape: str) -> int:
    return list(CLASS_OF_SYNSET).index(shape.split("/")[0])


def _read_list(path: Path) -> list[str]:
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise InputError(f"{path} must be a list of shapes like shape_data/02691156/1a04e3eab45ca15dd86060f189eb133")
    check_names(entries, path)
    shapes = ["/".join(PurePosixPath(entry).parts[-2:]) for entry in entries]
    if shapes:
        check_once(shapes, path)
    for shape in shapes:
        if shape.split("/")[0] not in CLASS_OF_SYNSET:
            raise InputError(f"{path} lists {shape}, which is in none of the 16 categories of ShapeNetPart")
    return shapes


def _read_texts(paths: Sequence[Path], allocate: Allocate) -> None:
    with tqdm(paths, desc=f"reading {paths[0].parents[1]}") as progress:
        texts = [_read_text(path) for path in progress]
    sizes = [len(parts) for _, parts in texts]
    num_points = sum(sizes)
    tensors = allocate(
        {
            "points": (torch.float32, (num_points, 6)),
            "parts": (torch.uint8, (num_points,)),
            "sizes": (torch.int64, (len(sizes),)),
        }
    )
    tensors["sizes"].copy_(torch.tensor(sizes))
    places = zip(tensors["points"].split(sizes), tensors["parts"].split(sizes), strict=True)
    for (points, parts), text in zip(places, texts, strict=True):
        points.copy_(torch.from_numpy(text[0]))
        parts.copy_(torch.from_numpy(text[1]))


def _fits(tensors: Tensors, num_shapes: int) -> bool:
    """Return whether the tensors of a cache have the right shapes and values for ``num_shapes`` shapes."""
    points, parts, sizes = (tensors[name] for name in ("points", "parts", "sizes"))
    return (
        (points.dtype, sizes.dtype) == (torch.float32, torch.int64)
        and (points.shape[1:], parts.shape, sizes.shape) == ((6,), points.shape[:1], (num_shapes,))
        and bool(sizes.min() > 0 and sizes.max() <= len(points) and sizes.sum() == len(points))
        and are_finite(points)
        and _are_parts(parts, torch.uint8)
    )


def _are_parts(parts: Tensor, dtype: torch.dtype) -> bool:
    return parts.dtype == dtype and are_within(parts, range(len(PART_NAMES)))


def _read_text(path: Path) -> tuple[Float[np.ndarray, "N 6"], UInt8[np.ndarray, " N"]]:
    lines = [line for line in read_plain(path).decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty: fetch it again")
    try:
        table = np.loadtxt(lines, comments=None, ndmin=2)
    except ValueError as error:
        raise InputError(f"{path} must contain lines of x y z nx ny nz part: {printable(error)}") from error
    if table.shape[1] != 7 or not np.isfinite(table).all() or np.abs(table[:, 3:]).max() > 1e18:
        raise InputError(f"{path} must contain lines of seven finite numbers x y z nx ny nz part")
    category = CLASS_OF_SYNSET[path.parent.name]
    if not (known_mask := np.isin(table[:, 6], CLASS_PARTS[category])).all():
        first, last = CLASS_PARTS[category][0], CLASS_PARTS[category][-1]
        wrong = table[~known_mask][0, 6]
        raise InputError(f"{path} has a point of part {wrong:g}, but the parts of {category} are {first} to {last}")
    table[:, :3] = normalize_clouds(torch.from_numpy(table[None, :, :3]), str(path))[0].numpy()
    points, parts = table[:, :6].astype(np.float32), table[:, 6].astype(np.uint8)
    points[:, 3:] = unit_normals(points[:, 3:])
    return points, parts
