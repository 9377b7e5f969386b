"""Predict classes or parts of clouds with an exported model: NumPy and ONNX Runtime, no PyTorch, no bixt3d.

    $ bixt3d train cls --cfg shapes_cls --run_dir runs/demo --data.train_per_class 4 --data.num_points 128 \\
          --train.epochs 1
    ...
    $ bixt3d export runs/demo --format onnx
    ...
    $ python examples/onnx_deployment.py runs/demo/model.onnx
    a sphere of 5000 points: bed 6.6%, mug 6.5%, stool 6.4%

Files may follow, .npy or text (.txt, .csv), with a row for each point: x y z, then the features that the model reads,
in the order of its inputs. Clouds may have any number of points, units and place; normals any length; colors go from 0
to 1. A model of parts that needs the category: --category NAME.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime


class CloudModel:
    """An exported model of clouds, with the names of its classes or parts."""

    def __init__(self, path: str, threads: int = 0):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: as many as there are cores
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        facts = self.session.get_modelmeta().custom_metadata_map
        self.class_names = json.loads(facts["class_names"])
        self.part_names = json.loads(facts.get("part_names", "[]"))
        self.up, self.features = facts["up"], facts["features"]
        self.widths = {one.name: one.shape[2] for one in self.session.get_inputs() if one.name != "category"}

    def probabilities(self, table: np.ndarray, category: str | None = None) -> np.ndarray:
        """Return the probabilities of the classes (C,) or, of a part segmenter, of all parts at each point (N, C)."""
        if table.ndim != 2 or table.shape[1] != sum(self.widths.values()):
            raise ValueError(f"expected rows of x y z and {self.features or 'nothing else'}, not {table.shape}")
        columns = np.split(table, np.cumsum(list(self.widths.values()))[:-1], axis=1)
        inputs = {
            name: values[None].astype(np.float64 if name == "xyz" else np.float32)
            for name, values in zip(self.widths, columns, strict=True)
        }
        if category is not None:
            inputs["category"] = np.array([self.class_names.index(category)])
        (found,) = self.session.run(["probabilities"], inputs)
        if np.isnan(found).any():
            raise ValueError("no cloud: one place for all points, or numbers that are not finite, or colors above 1")
        return found[0]


def read_table(path: Path) -> np.ndarray:
    """Return the rows of a file: .npy, or text with columns between spaces or commas, perhaps under a line of names."""
    if path.suffix == ".npy":
        return np.load(path)
    try:
        lines = path.read_text(encoding="utf-8").replace(",", " ").splitlines()
        named = bool(lines) and any(
            word[0].isalpha() and word.lower() not in ("nan", "inf") for word in lines[0].split()
        )
        return np.loadtxt(lines[named:], ndmin=2)
    except ValueError:  # also for a file that is not text
        raise SystemExit(f"{path} is no table of numbers: write the cloud as .npy, .txt or .csv first") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the prediction of each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the .onnx file")
    parser.add_argument("clouds", nargs="*", type=Path, help=".npy, .txt or .csv")
    parser.add_argument("--category", help="of all clouds, for a model of parts that reads it")
    options = parser.parse_args(arguments)

    model = CloudModel(options.model)
    clouds = {path: read_table(path) for path in options.clouds}
    if not clouds:
        sphere = np.random.default_rng(0).normal(size=(5000, 3))
        clouds["a sphere of 5000 points"] = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    for path, table in clouds.items():
        probabilities = model.probabilities(table, options.category)
        if model.part_names:
            parts, counts = np.unique(probabilities.argmax(1), return_counts=True)
            shares = {model.part_names[part]: count / len(table) for part, count in zip(parts, counts, strict=True)}
        else:
            shares = dict(zip(model.class_names, probabilities, strict=True))
        best = sorted(shares.items(), key=lambda item: -item[1])[:3]
        print(f"{path}: {', '.join(f'{name} {share:.1%}' for name, share in best)}")


if __name__ == "__main__":
    main()
