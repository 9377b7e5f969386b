"""Time and memory of `bixt3d predict` on LAZ files of several sizes, made of copies of one tile side by side.

    python benchmarks/large_files.py --tile TILE.laz --checkpoint RUN --millions 5,20 --work runs/large_files

RUN is a run of scene segmentation. Each file is predicted by a process of its own, pictures included; the peak is that
of its resident memory. A file that is there already is not made again.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import laspy
import numpy as np


def write_copies(tile: Path, path: Path, points: int) -> int:
    """Write copies of a tile side by side, of at least so many points together; return their number of points."""
    las = laspy.read(tile)
    copies = math.ceil(points / len(las.points))
    side, steps = math.ceil(math.sqrt(copies)), [int(np.ptp(axis)) + 1 for axis in (las.X, las.Y)]
    corner = int(las.X.min()), int(las.Y.min())
    x, y = las.X - corner[0], las.Y - corner[1]
    with laspy.open(path, "w", header=las.header) as writer:
        for copy in range(copies):
            las.X, las.Y = x + corner[0] + copy % side * steps[0], y + corner[1] + copy // side * steps[1]
            writer.write_points(las.points)
    return copies * len(las.points)


def predict(path: Path, checkpoint: Path, out: Path) -> tuple[float, float]:
    """Predict a file in a process of its own; return the seconds, and the peak of its resident memory in MiB."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "bixt3d", "predict", path, "--checkpoint", checkpoint, "--out", out]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"prediction of {path} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tile", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--millions", default="5,20", help="sizes of the files, in millions of points")
    parser.add_argument("--work", type=Path, default=Path("runs/large_files"))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    print("| points | seconds | million points a minute | peak memory, MiB |\n|---|---|---|---|")
    for millions in map(float, given.millions.split(",")):
        path = given.work / f"{millions:g}.laz"
        if not path.is_file():
            write_copies(given.tile, path, int(millions * 1e6))
        with laspy.open(path) as file:
            points = file.header.point_count
        out = given.work / f"predicted_{millions:g}_{time.time_ns()}"
        seconds, peak = predict(path, given.checkpoint, out)
        print(f"| {points:,} | {seconds:.0f} | {points / 1e6 / seconds * 60:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
