"""Accuracy of cfgs/folder_cls.yaml on four small sets, beside a random forest: as they are, and turned at random.

    python benchmarks/folders.py --street STREET --modelnet10 MODELNET10 --work runs/folders --seeds 0,1,2

STREET has train/CLASS/*.npz and test/CLASS/*.npz with x, y and z (Sydney Urban Objects); MODELNET10 is a folder in
the layout of modelnet40_ply_hdf5_2048, of which 50 training shapes of each class are used. The sets are written to
WORK; each is checked (`bixt3d data check`), and trained by the command that this prints. More options are settings of
the training, such as --train.steps 800. A run that is there already is not repeated.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

PER_CLASS = 50
FOREST = Path(__file__).parents[1] / "examples" / "random_forest.py"


def turned(xyz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a cloud turned at random about all axes."""
    rotation, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation = rotation * np.sign(np.diag(upper))
    return xyz @ (rotation * np.sign(np.linalg.det(rotation)))


def write(root: Path, clouds: list[tuple[str, np.ndarray]], turn: bool) -> None:
    """Write clouds, each with its path below the root, as .npy files."""
    rng = np.random.default_rng(0)
    for name, xyz in clouds:
        path = root / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, turned(xyz, rng) if turn else xyz)


def street(root: Path) -> list[tuple[str, np.ndarray]]:
    """Return the clouds of Sydney Urban Objects."""
    found = []
    for path in sorted(root.glob("t*/*/*.npz")):
        with np.load(path) as arrays:
            xyz = np.stack([arrays[axis] for axis in "xyz"], axis=1).astype(np.float64)
        found.append((path.relative_to(root).with_suffix("").as_posix(), xyz))
    return found


def modelnet10(root: Path) -> list[tuple[str, np.ndarray]]:
    """Return the first 50 training clouds of each class, and all test clouds."""
    names = (root / "shape_names.txt").read_text().split()
    found = []
    for split in ("train", "test"):
        counts = Counter()
        for line in (root / f"{split}_files.txt").read_text().split():
            with h5py.File(root / Path(line).name) as file:
                clouds, labels = file["data"][:].astype(np.float64), file["label"][:].reshape(-1)
            for xyz, label in zip(clouds, labels, strict=True):
                counts[label] += 1
                if split == "test" or counts[label] <= PER_CLASS:
                    found.append((f"{split}/{names[label]}/{counts[label]:04d}", xyz))
    return found


def output(*words: str) -> str:
    """Return what a Python program prints."""
    return subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Write the sets, train on each, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--street", type=Path, required=True)
    parser.add_argument("--modelnet10", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/folders"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sets", default="street,street_turned,modelnet10_50,modelnet10_50_turned")
    parser.add_argument("--init", help="start from the weights of this run")
    arguments, settings = parser.parse_known_args()
    rows = []
    for name in arguments.sets.split(","):
        root = arguments.work / "sets" / name
        if not root.is_dir():
            clouds = street(arguments.street) if "street" in name else modelnet10(arguments.modelnet10)
            write(root, clouds, turn="turned" in name)
        forest = output(str(FOREST), str(root), "--seeds", arguments.seeds).splitlines()[-1]
        said = output("-m", "bixt3d", "data", "check", str(root)).splitlines()
        command = shlex.split(next(line for line in said if line.lstrip().startswith("bixt3d train")))
        folder, began = arguments.work / name, time.perf_counter()
        if not (folder / "result.json").is_file():
            command += ["--seeds", arguments.seeds, "--run_dir", str(folder), *settings]
            command += ["--train.init", arguments.init] if arguments.init else []
            subprocess.run([sys.executable, "-m", *command], check=True)
        result = json.loads((folder / "result.json").read_text())["overall_accuracy"]
        minutes = (time.perf_counter() - began) / 60
        rows.append(f"| {name} | {forest.split('accuracy ')[1].split(',')[0]} | ")
        rows[-1] += (
            f"{result['mean']:.2%} +- {result['deviation']:.2%} | {minutes:.1f} min | {shlex.join(command[3:])} |"
        )
        print("\n".join(["| set | forest | BiXT | time | settings |", "|---|---|---|---|---|", *rows]), flush=True)


if __name__ == "__main__":
    main()
