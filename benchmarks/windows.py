"""Scores, CPU time and memory of a run on scenes by the window that its model reads at a time, up to whole scenes.

    python benchmarks/windows.py RUN --windows 1024,4096,16384,0 [settings, such as --data.root FOLDER]

0: every scene in one pass. Each window is tested by a process of its own on one thread; the peak is that of its
resident memory, data and reports included, the time that of the CPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

WHOLE = 2**22


def test(run: Path, window: int, settings: list[str]) -> dict[str, float]:
    """Test a run with a window; return its scores, CPU seconds, and peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bixt3d", "test", run, "--out", folder, f"--train.window={window or WHOLE}"]
        command += [*settings, "--runtime.threads=1"]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"the test with windows of {window} failed")
        result = json.loads((Path(folder) / "result.json").read_text())
    scores = {name: result[name] for name in ("miou", "overall_accuracy", "mean_accuracy")}
    return scores | {"seconds": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--windows", default="1024,2048,4096,8192,16384,32768,0", help="voxels of the windows")
    given, settings = parser.parse_known_args()
    print("| window | mIoU | accuracy | mean accuracy | CPU seconds | peak memory, MiB |\n|---|---|---|---|---|---|")
    for window in map(int, given.windows.split(",")):
        found = test(given.run, window, settings)
        scores = " | ".join(f"{100 * found[name]:.2f}" for name in ("miou", "overall_accuracy", "mean_accuracy"))
        print(f"| {window or 'whole scene'} | {scores} | {found['seconds']:.0f} | {found['memory']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
