"""The page of benchmarks/gpu_report.py: its steps, tables beside floors, trainings, and output of what failed."""

import json
import re
from pathlib import Path
from typing import Any

HEADS, COPY_RATE = 6, 4.3e12
BYTES = {"sdpa": (260, 1220), "textbook, pure bf16": (1984, 2944), "textbook, autocast": (4288, 5248)}
FUSED = (192, 320)
"""Bytes that a token and head (32 wide, bfloat16, 64 latents) cost forward and backward, by implementation; the floor
is that of a fused one, at the rate of copying that an H200 reaches."""


def training(lines: list[tuple[float, str]]) -> str:
    """Return how a training went: accuracy of the last epoch, when 95 % was first reached, and the speed."""
    epochs = [
        (second, dict(re.findall(r"([a-z_]+) ([\d.e-]+)", line))) for second, line in lines if line[:6] == "epoch "
    ]
    if not epochs:
        return ""
    good = next((f"after {second} s" for second, row in epochs if float(row["test_accuracy"]) >= 0.95), "not reached")
    speeds = sorted(float(row["clouds_per_second"]) for _, row in epochs)
    (second, last), speed = epochs[-1], speeds[len(speeds) // 2]
    accuracy = f"{float(last['test_accuracy']):.2%} at epoch {last['epoch']}, the last, after {second} s"
    return f"{accuracy}; 95 % first: {good}; median {speed:,.0f} clouds/s in training"


def floors(rows: list[dict]) -> list[str]:
    """Return the times of attention per token and head beside the floors of the bytes that must be moved."""
    lines = ["| case | variant | ps per token and head | own floor | share | fused floor | share |", "|" + " --- |" * 7]
    for row in rows:
        case = re.match(r"bi-directional attention, (.*?), (\d+) x (\d+)", row["case"])
        if not case or "median_ms" not in row:
            continue
        taken = 1e9 * row["median_ms"] / (int(case[2]) * int(case[3]) * HEADS)
        passes = [place for place, name in enumerate(("forward", "backward")) if name in case[1]]
        said = [f"{taken:,.0f}"]
        for moved in (BYTES.get(row["variant"], FUSED), FUSED):
            floor = 1e12 * sum(moved[place] for place in passes) / COPY_RATE
            said += [f"{floor:,.0f}", f"{floor / taken:.0%}"]
        lines.append(f"| {case[1]}, {case[2]} x {case[3]} tokens | {row['variant']} | {' | '.join(said)} |")
    return [*lines, ""] if len(lines) > 2 else []


def write_report(report: dict[str, Any], out: Path) -> None:
    """Write report.json and report.md."""
    head = "# GPU report" + (", a dry run: nothing here was measured on a GPU" if report["dry"] else "")
    lines = [head, "", report["machine"], "", "| step | result | seconds | limit |", "| --- | --- | --- | --- |"]
    lines += [f"| {row['name']} | {row['status']} | {row['seconds']} | {row['limit']} |" for row in report["steps"]]
    for row in report["steps"]:
        if row["output"]:
            lines += [
                "",
                f"## {row['name']}: {row['status']}",
                "",
                f"`{row['command']}`",
                "",
                row.get("training", ""),
                "",
            ]
            lines += floors(row.get("table", {}).get("rows", []))
            lines += row.get("page", "").split("\n", 2)[2:]
            last = 60 if row["status"] == "passed" else 400
            shown = [] if "table" in row and row["status"] == "passed" else row["output"][-last:]
            lines += ["```", *(line for _, line in shown), "```"] if shown else []
    for name, text in (("report.json", json.dumps(report, indent=1)), ("report.md", "\n".join(lines) + "\n")):
        (out / f"{name}.new").write_text(text)
        (out / f"{name}.new").replace(out / name)
