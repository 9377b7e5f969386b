"""Measure what everything costs here, beside what one would take in its place.

    python benchmarks/run.py [--suite ops|attention|train|models|scale|scenes]... [--threads 2] [--out benchmarks/cpu]

Every variant of a case runs in the same process on the same data, and is compared with a reference before it is timed.
A variant that cannot run here has a row that says why.
"""

import argparse
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from bench_attention import bench_attention
from bench_case import How, Row
from bench_measure import how_on
from bench_models import bench_models
from bench_ops import bench_ops
from bench_scale import bench_scale
from bench_scenes import bench_scenes
from bench_train import bench_train

from bixt3d.cli.program import run_program
from bixt3d.engine.checkpoint import write_json, write_text
from bixt3d.engine.report import commit
from bixt3d.types import InputError

SUITES: dict[str, Callable[[How], Iterator[list[Row]]]] = {
    "ops": bench_ops,
    "attention": bench_attention,
    "train": bench_train,
    "models": bench_models,
    "scale": bench_scale,
    "scenes": bench_scenes,
}
"""In the order in which they run: up to `train`, the C library must not keep freed memory."""

PACKAGES = ("torch", "triton", "numba", "numpy", "torch-cluster", "torch-quickfps", "scipy", "pykdtree")
PACKAGES += ("open3d", "timm")

COLUMNS = {
    "median_ms": ("median, ms", "{:,.3f}"),
    "per_second": ("per second", "{:,.4g}"),
    "speedup": ("ratio", "{:.2f}x"),
    "copy_percent": ("% of copy rate", "{:.0f}"),
    "matrix_percent": ("% of matrix rate", "{:.1f}"),
    "memory_mb": ("memory, MB", "{:,.1f}"),
    "kept_mb": ("kept for backward, MB", "{:,.2f}"),
    "process_mb": ("process, MB", "{:,.0f}"),
    "slope": ("slope", "{:.3f}"),
}
"""Columns of numbers: their heads, and how a number is written."""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the suites and print a table as it grows; returns what ``--json`` writes."""
    given = read_arguments(argv)
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.zeros(8).exp()  # the first multi-threaded exp of a process is sometimes inaccurate; this one is not
    torch.manual_seed(0)
    how = how_on(choose_device(given.device), given.repeats or (1 if given.small else 7), given.small)
    how = replace(how, skip=given.skip, keep_going=given.keep_going)
    facts = describe(how, sys.argv[1:] if argv is None else argv)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    found = {**facts, "rows": []}
    for suite in SUITES:
        for table in SUITES[suite](how) if suite in (given.suite or SUITES) else ():
            print_case(table)
            found["rows"] += [{"suite": suite, **row} for row in table]
            write(given, facts, found)
    print(f"\n{count_targets(found['rows'])}")
    if wrong := [f"{row['case']}, {row['variant']}: {row['note']}" for row in found["rows"] if "wrong" in row]:
        raise AssertionError("\n".join(wrong))
    return found


def write(given: argparse.Namespace, facts: dict[str, str], found: dict[str, Any]) -> None:
    """Write what was found so far to the files that were asked for."""
    for path in filter(None, (given.json, given.out and Path(f"{given.out}.json"))):
        write_json(path, found)
    if given.out:
        write_text(Path(f"{given.out}.md"), markdown(facts, found["rows"]))


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the settings of the command line. Raises InputError for a number below 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, action="append", help="may be repeated; default: all")
    parser.add_argument("--repeats", type=int, help="turns of each variant, after a warm-up; slow ones take fewer")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; default: as many as PyTorch takes")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that everything runs: no measurement")
    parser.add_argument("--skip", metavar="REGEX", help="leave out variants whose name contains this")
    parser.add_argument("--keep-going", action="store_true", help="go on after a wrong variant, and fail at the end")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md: benchmarks/README.md says what for")
    given = parser.parse_args(argv)
    for name in ("repeats", "threads"):
        if (number := getattr(given, name)) is not None and number < 1:
            raise InputError(f"--{name} must be at least 1, not {number}")
    return given


def choose_device(name: str) -> torch.device:
    """Return the device. Raises InputError if there is no GPU that PyTorch sees."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device was found: use --device auto or cpu")
    on_gpu = name != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def describe(how: How, argv: Sequence[str]) -> dict[str, str]:
    """Return device, versions, commit, date and command in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    threads = torch.get_num_threads()
    facts = {
        "command": f"python benchmarks/run.py {shlex.join(map(str, argv))}".strip(),
        "device": torch.cuda.get_device_name(how.device) if how.on_gpu else f"{cpu}, {threads} threads",
        "commit": commit(),
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "versions": ", ".join(f"{package} {installed(package)}" for package in PACKAGES),
    }
    if how.copy_rate and how.matrix_rate:
        facts["measured rates"] = f"copy {how.copy_rate / 1e12:.2f} TB/s, bf16 {how.matrix_rate / 1e12:.0f} TFLOP/s"
    return facts | ({"small": "tiny sizes: these times say nothing about speed"} if how.small else {})


def installed(package: str) -> str:
    """Return the version of a package, or that it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def notes(row: Row) -> str:
    """Return why a row was not run, and which targets it meets."""
    marks = {True: "met", False: "missed", None: "not measured"}
    said = [f"target {target['what']}: {marks[target['met']]}" for target in row.get("targets", [])]
    return "; ".join([*filter(None, [row.get("note")]), *said])


def cells(row: Row) -> dict[str, str]:
    """Return the numbers of a row as they are written."""
    written = {name: text.format(row[name]) for name, (_, text) in COLUMNS.items() if row.get(name) is not None}
    if "turns" in row:
        written["median_ms"] += f" ({row['min_ms']:,.3f}-{row['max_ms']:,.3f}, {row['turns']})"
        written["per_second"] += f" {row['unit']}"
    return written


def print_case(rows: Sequence[Row]) -> None:
    """Print the rows of one case."""
    print(f"\n{rows[0]['case']}: median ms (lowest-highest, turns), per second, ratio to {rows[0]['baseline']}")
    for row in rows:
        written = cells(row)
        first = [written.pop(name, "") for name in ("median_ms", "per_second", "speedup")]
        rest = ", ".join(f"{COLUMNS[name][0]} {text}" for name, text in written.items())
        said = "; ".join(filter(None, [rest, notes(row)]))
        print(f"  {row['variant']:34} {first[0]:>38} {first[1]:>18} {first[2]:>9}  {said}".rstrip(), flush=True)


def count_targets(rows: Sequence[Row]) -> str:
    """Return how many targets are met, and which are not."""
    judged = [(row, target) for row in rows for target in row.get("targets", [])]
    met = sum(target["met"] is True for _, target in judged)
    others = [
        f"{'missed' if target['met'] is False else 'not measured'}: {row['case']}, {row['variant']}, {target['what']}"
        for row, target in judged
        if not target["met"]
    ]
    return "\n".join([f"targets met: {met} of {len(judged)}", *others])


def markdown(facts: dict[str, str], rows: Sequence[Row]) -> str:
    """Return the table as a page: a line for each row, with the columns that any row has."""
    used = [name for name in COLUMNS if any(row.get(name) is not None for row in rows)]
    heads = ["case", "variant", *(COLUMNS[name][0] for name in used), "ratio to", "notes"]
    lines = [f"- {name}: {f'`{value}`' if name == 'command' else value}" for name, value in facts.items()]
    lines += ["", "Medians, with (lowest-highest, turns).", ""]
    lines += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in rows:
        written = cells(row)
        numbers = [written.get(name, "") for name in used]
        line = " | ".join([row["case"], row["variant"], *numbers, row["baseline"], notes(row)])
        lines.append(f"| {line} |")
    return "\n".join(["# What bixt3d costs", "", *lines, "", count_targets(rows).replace("\n", "\n- "), ""])


if __name__ == "__main__":
    run_program(main)
