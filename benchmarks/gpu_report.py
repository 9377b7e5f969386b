"""Test, measure and train on a GPU in ten minutes, step by step; or try all of it on a CPU (--dry).

    python benchmarks/gpu_report.py pack --data data/modelnet10_ply_hdf5_1024 --out .gpu
    python benchmarks/gpu_report.py [run] --pack .gpu --budget 560 --out OUT

`pack` makes a folder to carry to a machine without a network: packages that are missing there, and ModelNet10. `run`
takes the steps in order of worth. Each ends by its own limit; OUT has report.md, report.json and output.txt from the
first step on, and cache.tar.gz, the compiled Triton kernels: in the folder that is carried, they need no compiling.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from gpu_report_pack import ROOT, commit, keep_cache, pack, unpack
from gpu_report_page import training, write_report

WORK = ROOT / "runs" / "gpu_report"
"""What stays on the machine: installed packages, caches, runs to resume."""
GRACE = 15.0
"""Seconds that a step has to end by itself after its limit, and that are kept for the report."""


@dataclass(frozen=True)
class Step:
    """One step: the seconds it may take, its command on a GPU, and its command in a dry run.

    ``instead_of``: it runs only if that step failed. {work}, {data} and {name} are filled in.
    """

    name: str
    limit: float
    command: str
    dry: str
    instead_of: str = ""


TEST = "python -m pytest -v -W default -p no:cacheprovider -p no:benchmark --tb=long "
GPU_TESTS = "tests/ops tests/datasets/test_transforms.py tests/tools/test_backends.py"
INTERPRETED = (
    "tests/ops/test_triton_bi_attention.py tests/ops/test_triton_neighbors.py tests/ops/test_triton_grid_knn.py"
)
BENCH = "python benchmarks/run.py --keep-going --out {work}/{name} "
ON_GPU, ON_CPU = "--device cuda --repeats 3 --suite ", "--device cpu --small --suite "
TRAIN = "python -m bixt3d train cls --run_dir {work}/{name} "
TINY = "--cfg shapes_cls --data.train_per_class 4 --data.test_per_class 2 --data.num_points 128 --train.epochs 2 "
TEN = "--data.root {data} --runtime.accelerator cuda --runtime.precision bf16-mixed "
PROFILE = "benchmarks/bench_profile.py"

STEPS = (
    Step(
        "kernels", 150, f"{TEST} -n 8 -m gpu {GPU_TESTS}", f"{TEST} {INTERPRETED} -k 'half_precision or tiles or far'"
    ),
    Step("attention", 90, f"{BENCH}{ON_GPU}attention --skip compiled", f"{BENCH}{ON_CPU}attention"),
    Step("points", 80, f"{BENCH}{ON_GPU}ops", f"{BENCH}{ON_CPU}ops"),
    Step("step", 50, f"{BENCH}{ON_GPU}train --skip 'compiled|graphs'", f"{BENCH}{ON_CPU}train"),
    Step("million_points", 50, f"{BENCH}{ON_GPU}scale", f"{BENCH}{ON_CPU}scale"),
    Step("million_voxels", 30, f"{BENCH}{ON_GPU}scenes", f"{BENCH}{ON_CPU}scenes"),
    Step(
        "modelnet10",
        180,
        f"{TRAIN}--cfg modelnet10_hierarchy {TEN}--runtime.cuda_graphs true --train.epochs 60",
        f"{TRAIN}{TINY}--runtime.accelerator cpu --runtime.precision bf16-mixed",
    ),
    Step(
        "modelnet10_eager",
        120,
        f"{TRAIN}--cfg modelnet10_hierarchy {TEN}--train.epochs 30",
        f"{TRAIN}{TINY}--runtime.accelerator cpu",
        instead_of="modelnet10",
    ),
    Step("kernels_more", 90, f"{TEST} -n 8 -m 'not gpu' {INTERPRETED}", ""),
    Step("profile_step", 40, f"python {PROFILE} step", f"python {PROFILE} step --small"),
    Step(
        "profile_attention",
        40,
        "ncu --clock-control none --profile-from-start off --set full --print-details header "
        f"python {PROFILE} attention",
        f"python {PROFILE} attention --small",
    ),
    Step(
        "step_compiled",
        120,
        f"{BENCH}{ON_GPU}train --skip 'elite|^PointMLP,|textbook|Block'",
        f"{BENCH}{ON_CPU}train --skip 'elite|^PointMLP,|textbook|Block'",
    ),
    Step(
        "modelnet10_grouping",
        240,
        f"{TRAIN}--cfg modelnet10_grouping {TEN}--runtime.cuda_graphs true --train.epochs 60",
        f"{TRAIN}{TINY}--runtime.accelerator cpu",
    ),
    Step(
        "modelnet10_naive",
        240,
        f"{TRAIN}--cfg modelnet10_naive {TEN}--runtime.cuda_graphs true --train.epochs 60",
        f"{TRAIN}{TINY}--runtime.accelerator cpu",
    ),
    Step("models", 90, f"{BENCH}{ON_GPU}models", f"{BENCH}{ON_CPU}models"),
    Step("attention_compiled", 120, f"{BENCH}{ON_GPU}attention --skip 'pure|sdpa|chunked|triton|auto$'", ""),
)
"""In order of worth."""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Pack, or run the steps; returns the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("run", "pack"), default="run")
    parser.add_argument("--data", type=Path, help="pack: folder of ModelNet10 in HDF5 files")
    parser.add_argument("--pack", type=Path, default=ROOT / ".gpu", help="run: the folder that `pack` made")
    parser.add_argument("--out", type=Path, help="pack: the folder to make (.gpu); run: $OUT, or runs/gpu_report/out")
    parser.add_argument("--budget", type=float, help="seconds of all steps (580; dry: 880)")
    parser.add_argument("--steps", default="", help=f"some of: {','.join(step.name for step in STEPS)}")
    parser.add_argument("--dry", action="store_true", help="on a CPU, tiny sizes, kernels in Triton's interpreter")
    given = parser.parse_args(argv)
    if given.what == "pack":
        return pack(given.data, given.out or ROOT / ".gpu")
    names = given.steps.split(",") if given.steps else [step.name for step in STEPS]
    if unknown := set(names) - {step.name for step in STEPS}:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    out = given.out or Path(os.environ.get("OUT", WORK / "out"))
    out.mkdir(parents=True, exist_ok=True)
    return run(
        [step for step in STEPS if step.name in names],
        given.pack.resolve(),
        out,
        given.budget or (880 if given.dry else 580),
        given.dry,
    )


def run(steps: Sequence[Step], packed: Path, out: Path, budget: float, dry: bool) -> dict[str, Any]:
    """Take the steps, and renew the report after each."""
    began, results, kept = time.monotonic(), [], 0
    (out / "output.txt").write_text("")
    env = unpack(packed, WORK) | ({"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""} if dry else {})
    report = {"machine": machine(env, packed), "dry": dry, "budget": budget, "steps": results}
    for step in steps:
        failed = {result["name"] for result in results if result["status"].startswith("failed")}
        left = budget - (time.monotonic() - began) - GRACE
        fill = {"work": WORK, "name": step.name, "data": packed / "modelnet10"}
        command = shlex.split((step.dry if dry else step.command).format(**fill))
        results.append(take(step, command, min(240 if dry else step.limit, left), env, failed, out / "output.txt"))
        results[-1]["elapsed"] = round(time.monotonic() - began, 1)
        write_report(report, out)
        kept = keep_cache(WORK, out, kept)
        print(f"{step.name}: {results[-1]['status']}", flush=True)
    return report


def machine(env: dict[str, str], packed: Path) -> str:
    """Return device, versions and commit in words."""
    code = "import sys, torch, triton, numpy, os\nname = torch.cuda.is_available() and torch.cuda.get_device_name()\n"
    code += 'print(f\'{name or "CPU"}, {os.cpu_count()} cores, Python {sys.version.split()[0]}, torch '
    code += "{torch.__version__}, triton {triton.__version__}, numpy {numpy.__version__}')"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    told = packed / "commit.txt"
    said = (done.stdout or done.stderr).strip().splitlines() or ["nothing is known"]
    return f"{said[-1]}, commit {commit() or (told.read_text() if told.is_file() else 'unknown')}"


def take(step: Step, command: list[str], limit: float, env: dict[str, str], failed: set[str], log: Path) -> dict:
    """Run one step until it ends or its limit is reached; returns its row of the report."""
    row = {
        "name": step.name,
        "command": shlex.join(command),
        "limit": max(0, round(limit)),
        "seconds": 0.0,
        "output": [],
    }
    if reason := reason_against(step, command, limit, failed):
        return row | {"status": reason}
    folder = WORK / step.name
    if (folder / "result.json").is_file() or env.get("TRITON_INTERPRET"):
        shutil.rmtree(folder, ignore_errors=True)
    if (folder / "run.json").is_file():
        command = ["python", "-m", "bixt3d", "train", "cls", "--resume", str(folder)]
        row["command"] = shlex.join(command)
    for path in WORK.glob(f"{step.name}.*"):
        path.unlink()
    command, began = [sys.executable if word == "python" else word for word in command], time.monotonic()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, preexec_fn=os.setpgrp, **pipes)
    reader = Thread(target=read, args=(process.stdout, log, f"\n== {step.name}: {row['command']}\n", row["output"]))
    reader.start()
    try:
        code = process.wait(limit)
        row["status"] = f"failed with exit code {code}" if code else "passed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)  # pytest prints its failures, training saves its state
        row["status"] = f"cut after {limit:.0f} s"
        try:
            process.wait(GRACE - 2)
        except subprocess.TimeoutExpired:
            row["status"] += " and killed"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what the step started, too
        process.wait()
        reader.join()
    row["seconds"] = round(time.monotonic() - began, 1)
    row["training"] = training(row["output"])
    if (table := WORK / f"{step.name}.json").is_file():
        row |= {"table": json.loads(table.read_text()), "page": table.with_suffix(".md").read_text()}
    return row


def reason_against(step: Step, command: list[str], limit: float, failed: set[str]) -> str:
    """Return why a step is not run; empty if it is."""
    data = [Path(word) for word, before in zip(command[1:], command, strict=False) if before == "--data.root"]
    tool = command[0] if command else ""
    reasons = {
        "left out of a dry run": not command,
        f"not needed: {step.instead_of} did not fail": bool(step.instead_of) and step.instead_of not in failed,
        "not reached: the budget is spent": limit < 1,
        "not run: no packed data": not all(path.is_dir() for path in data),
        f"not run: {tool} is not installed": tool not in ("", "python") and shutil.which(tool) is None,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def read(stream: Any, log: Path, title: str, lines: list[tuple[float, str]]) -> None:
    """Copy the lines of a step to the log as they come, with the seconds since its start; three million characters."""
    began, size = time.monotonic(), 0
    with stream, log.open("a", buffering=1) as file:
        file.write(title)
        for line in stream:
            size += len(line)
            if size <= 3_000_000:
                lines.append((round(time.monotonic() - began, 1), line.rstrip()))
                file.write(f"{lines[-1][0]:7.1f}  {lines[-1][1]}\n")


if __name__ == "__main__":
    sys.exit(any(row["status"].startswith(("failed", "cut")) for row in main().get("steps", [])))
