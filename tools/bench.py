"""Measure what the operators cost here: python tools/bench.py [--suite ops|attention|train] [--json FILE]

Every variant of a row runs in the same process on the same data; it is compared with the reference before it is timed.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bixt3d.config import run_program
from bixt3d.engine.checkpoint import write_json
from bixt3d.engine.report import commit
from bixt3d.engine.runtime import keep_freed_memory
from bixt3d.models.presets import build_model
from bixt3d.ops import bi_attention, farthest_points, knn

Row = dict[str, str | float]
Variants = dict[str, Callable[[], object]]


def measure(title: str, variants: Variants, baseline: str, repeats: int) -> list[Row]:
    """Return median and spread of every variant in ms, taking turns, and how many times faster than the baseline."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, run in variants.items():
            began = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:  # the first is a warm-up
                times[name].append(1e3 * (time.perf_counter() - began))
    median = {name: statistics.median(values) for name, values in times.items()}
    return [
        {
            "case": title,
            "variant": name,
            "median_ms": median[name],
            "min_ms": min(values),
            "max_ms": max(values),
            "speedup": median[baseline] / median[name],
        }
        for name, values in times.items()
    ]


def textbook_farthest_points(xyz: Tensor, num_points: int) -> Tensor:
    """Return farthest points as most repositories write it: one (B, N, 3) difference for each sample."""
    batch = torch.arange(len(xyz))
    index = torch.zeros(len(xyz), num_points, dtype=torch.long)
    distance, farthest = torch.full(xyz.shape[:2], 1e10), torch.zeros(len(xyz), dtype=torch.long)
    for i in range(num_points):
        index[:, i] = farthest
        distance = torch.minimum(distance, ((xyz - xyz[batch, farthest][:, None]) ** 2).sum(-1))
        farthest = distance.max(-1)[1]
    return index


def textbook_knn(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """Return neighbors as most repositories write it: all squared distances by matrix product, then topk."""
    distance = (queries**2).sum(-1)[:, :, None] - 2 * queries @ points.transpose(1, 2) + (points**2).sum(-1)[:, None]
    return distance.topk(num_neighbors, largest=False)[1]


def bench_ops(repeats: int) -> list[Row]:
    """Farthest point sampling and kNN on a CPU."""
    rows = []
    for num_clouds, size, chosen in ((32, 1024, 512), (32, 2048, 512), (1, 100_000, 1000)):
        xyz = torch.randn(num_clouds, size, 3)
        assert torch.equal(farthest_points(xyz, chosen), farthest_points(xyz, chosen, "torch"))
        variants: Variants = {
            "textbook": lambda xyz=xyz, k=chosen: textbook_farthest_points(xyz, k),
            "torch": lambda xyz=xyz, k=chosen: farthest_points(xyz, k, "torch"),
            "wheel (auto)": lambda xyz=xyz, k=chosen: farthest_points(xyz, k, "wheel"),
        }
        rows += measure(f"farthest points, {num_clouds} x {size} -> {chosen}", variants, "textbook", repeats)
    for num_clouds, groups, size, k in ((32, 512, 1024, 24), (32, 2048, 2048, 32)):
        xyz = torch.randn(num_clouds, size, 3)
        queries = xyz[:, :groups]
        assert torch.equal(knn(queries, xyz, k), knn(queries, xyz, k, "torch"))
        variants = {
            "textbook": lambda q=queries, xyz=xyz, k=k: textbook_knn(q, xyz, k),
            "torch": lambda q=queries, xyz=xyz, k=k: knn(q, xyz, k, "torch"),
            "wheel (auto)": lambda q=queries, xyz=xyz, k=k: knn(q, xyz, k, "wheel"),
        }
        rows += measure(f"kNN, {num_clouds} x ({groups} of {size}), k {k}", variants, "textbook", repeats)
    return rows


def bench_attention(repeats: int) -> list[Row]:
    """Bi-directional attention with 64 latents and 6 heads of 32, forward, and forward with backward."""
    rows = []
    for num_clouds, tokens in ((32, 1024), (1, 65_536)):
        refs_values = [torch.randn(num_clouds, n, 6, 32, requires_grad=True) for n in (64, 64, tokens, tokens)]

        def both(backend: str, refs_values: list[Tensor] = refs_values) -> None:
            latents, out = bi_attention(*refs_values, backend)
            torch.autograd.grad(latents.sum() + out.sum(), refs_values)

        def forward(backend: str, refs_values: list[Tensor] = refs_values) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                return bi_attention(*refs_values, backend)

        for ours, reference in zip(forward("sdpa"), forward("torch"), strict=True):
            torch.testing.assert_close(ours, reference)
        for what, run in (("forward", forward), ("forward + backward", both)):
            variants = {name: lambda run=run, name=name: run(name) for name in ("torch", "sdpa")}
            title = f"bi-directional attention, {what}, {num_clouds} x {tokens} tokens"
            rows += measure(title, variants, "torch", repeats)
    return rows


def bench_train(repeats: int) -> list[Row]:
    """A training step of modelnet10_small on 32 clouds of 512 points, before and after the C library keeps memory."""
    model = build_model("modelnet10_small", 10)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    xyz, feats = torch.nn.functional.normalize(torch.randn(32, 512, 3), dim=2), torch.zeros(32, 512, 0)

    def step() -> None:
        model(xyz, feats).logsumexp(1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    rows = measure(
        "training step, modelnet10_small", {"as the C library comes": step}, "as the C library comes", repeats
    )
    keep_freed_memory()
    after = measure("training step, modelnet10_small", {"keeping freed memory": step}, "keeping freed memory", repeats)
    after[0]["speedup"] = rows[0]["median_ms"] / after[0]["median_ms"]
    return rows + after


SUITES = {"ops": bench_ops, "attention": bench_attention, "train": bench_train}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the suites and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, action="append", help="default: all")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    given = parser.parse_args(argv)
    torch.manual_seed(0)
    cpu = next((line.split(":")[1].strip() for line in _cpu_lines() if "model name" in line), platform.machine())
    where = f"{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}, commit {commit()}"
    print(where)
    rows = [row for suite in given.suite or SUITES for row in SUITES[suite](given.repeats)]
    for row in rows:
        spread = f"{row['min_ms']:.1f}-{row['max_ms']:.1f}"
        print(f"{row['case']:58} {row['variant']:24} {row['median_ms']:9.1f} ms ({spread:>16})  {row['speedup']:6.2f}x")
    if given.json:
        write_json(given.json, {"where": where, "rows": rows})


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    run_program(main)
