"""Train on clouds with colors: write them as HDF5 files, then name the feature that the model reads.

    $ python examples/colored_clouds.py write fruits
    wrote 150 clouds to fruits: their classes differ in color alone
    $ bixt3d train cls --cfg shapes_cls --data ModelNetHDF5 --data.root fruits --data.features rgb \\
        --data.num_points 128 --train.batch_size 8 --train.epochs 3 --run_dir runs/fruits
    ...
    overall accuracy 100.00%, mean class accuracy 100.00%
    ...
    $ python examples/colored_clouds.py predict runs/fruits
    a yellow ball is a lemon (86 %)

The same command without --data.features trains a model that can only guess. --data.features normal,rgb,intensity reads
three features, each from the dataset of its name; data/README.md says what is done to normals, colors and scalars.
"""

import sys
from pathlib import Path

import numpy as np

from bixt3d import load_run

COLORS = {"apple": (200, 30, 40), "lemon": (240, 220, 60), "lime": (110, 190, 50)}


def make_fruit(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return points on an ellipsoid (128, 3), and their colors (128, 3) as bytes: a noisy one for each fruit."""
    xyz = rng.normal(size=(128, 3))
    xyz *= rng.uniform(0.8, 1.2, 3) / np.linalg.norm(xyz, axis=1, keepdims=True)
    shade = rng.uniform(0.7, 1.0) + rng.normal(0, 0.05, (128, 1))
    return xyz.astype(np.float32), (shade * COLORS[name]).clip(0, 255).astype(np.uint8)


def write_split(folder: Path, split: str, per_class: int, seed: int) -> None:
    """Write one HDF5 file of fruits and the list with its name."""
    import h5py

    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(COLORS)), per_class)
    xyz, rgb = zip(*(make_fruit(list(COLORS)[number], rng) for number in label), strict=True)
    with h5py.File(folder / f"{split}.h5", "w") as file:
        file["data"], file["rgb"], file["label"] = np.stack(xyz), np.stack(rgb), label
    (folder / f"{split}_files.txt").write_text(f"{split}.h5\n")


def write(folder: Path) -> None:
    """Write the whole data set: two files of clouds, the lists of files, the names of the classes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shape_names.txt").write_text("\n".join(COLORS))
    write_split(folder, "train", 40, seed=0)
    write_split(folder, "test", 10, seed=1)
    print(f"wrote {len(COLORS) * 50} clouds to {folder}: their classes differ in color alone")


def predict(run: Path) -> None:
    """Predict a cloud given as arrays; features are given by name, colors as bytes or from 0 to 1."""
    xyz, _ = make_fruit("apple", np.random.default_rng(2))
    found = load_run(run).predict(xyz, {"rgb": np.full((128, 3), (230, 210, 60), np.uint8)})
    print(f"a yellow ball is a {found.name} ({100 * found.confidence:.0f} %)")


if __name__ == "__main__":
    {"write": write, "predict": predict}[sys.argv[1]](Path(sys.argv[2]))
