"""The benchmarks: what is compared has a row, what is wrong ends them, what cannot run says why. No speeds."""

import builtins
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import bench_attention
import bench_ops
import bench_train
import pytest
import run as bench
import torch
from bench_case import Case, How, Target, summarize
from bench_measure import CannotRunError, assert_near, compiled, in_fresh_process, measure, not_run
from torch import Tensor

from bixt3d.types import InputError

CPU = How(torch.device("cpu"), repeats=2)
SMALL = replace(CPU, small=True)

COMPILABLE = ("PointMLP", "PointMLP-elite", "grouping")
CASES = {"ops": 5, "attention": 4, "train": 4, "models": 5, "scale": 3, "scenes": 1}
NOT_RUN_ON_A_CPU = {
    "ops": {
        "cluster",
        "torch-cluster",
        "triton",
        "torch-quickfps",
        "pykdtree",
        "Open3D",
    },  # all but triton may be installed
    "attention": {"triton", "textbook, compiled"},
    "train": {f"{name}, {how}" for name in COMPILABLE for how in ("compiled", "CUDA graphs")},
    "models": set(),
    "scale": set(),
    "scenes": set(),
}


@pytest.fixture(scope="module", params=CASES)
def suite(request, tmp_path_factory) -> tuple[str, dict[str, Any], Path]:
    """Return a suite, what a small run of it found, and where it wrote that to."""
    out = tmp_path_factory.mktemp("benchmarks") / "cpu.1"
    return request.param, bench.main(["--small", "--device=cpu", f"--suite={request.param}", f"--out={out}"]), out


def test_every_variant_has_a_row_with_a_time_or_a_reason(suite):
    name, found, _ = suite
    rows = found["rows"]
    assert {row["suite"] for row in rows} == {name} and len({row["case"] for row in rows}) == CASES[name]
    for row in rows:
        if "note" in row:
            assert row["variant"] in NOT_RUN_ON_A_CPU[name] and row["note"].startswith("not run: "), row
        else:
            assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"] and row["turns"] >= 1, row
            assert row["per_second"] > 0 and row["speedup"] > 0
            assert row["speedup"] == 1.0 or row["variant"] != row["baseline"]
    assert NOT_RUN_ON_A_CPU[name] <= {row["variant"] for row in rows}  # installed or not
    baselines = {(row["case"], row["baseline"]) for row in rows}
    assert baselines <= {(row["case"], row["variant"]) for row in rows if "median_ms" in row}


def test_the_files_hold_every_row_and_say_what_was_measured(suite):
    name, found, out = suite
    written = json.loads(Path(f"{out}.json").read_text())
    assert written == found and {"device", "commit", "date", "versions", "command"} <= set(written)
    assert written["commit"] == bench.commit() and f"torch {torch.__version__}".split("+")[0] in written["versions"]
    page = Path(f"{out}.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    assert [line[:2] for line in lines[2:]] == [[row["case"], row["variant"]] for row in found["rows"]]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert f"`python benchmarks/run.py --small --device=cpu --suite={name} --out={out}`" in page
    assert "these times say nothing about speed" in page


def case(variants: dict[str, Callable], **settings: Any) -> Case:
    """Return a case with one correct answer: 1."""

    def check(name: str, result: int) -> None:
        assert result == 1, "1 is right"

    return Case("one", "reference", variants, check, **settings)


def test_a_wrong_variant_ends_the_benchmark_before_anything_is_timed():
    calls = []
    variants = {"reference": lambda: calls.append("timed") or 1, "other": lambda: 2}
    with pytest.raises(AssertionError, match="one: 'other' gives a wrong result: 1 is right"):
        measure(case(variants), CPU)
    assert calls == ["timed"]  # its own check


def test_a_wrong_variant_may_have_a_row_and_the_program_fails_at_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    variants = {"reference": lambda: 1, "other": lambda: 2, "broken": lambda: 1 // 0, "left": lambda: 1}
    monkeypatch.setitem(bench.SUITES, "ops", lambda how: (measure(case(variants), how) for _ in range(2)))
    arguments = ["--small", "--device=cpu", "--suite=ops", "--keep-going", "--skip=^le", f"--json={tmp_path / 'rows'}"]
    with pytest.raises(AssertionError, match="^(one, (other|broken): FAILED: .*\\s?){4}$"):
        bench.main(arguments)
    rows = json.loads((tmp_path / "rows").read_text())["rows"]
    assert [row.get("note", "timed") for row in rows] == 2 * [
        "timed",
        "FAILED: AssertionError: one: 'other' gives a wrong result: 1 is right",
        "FAILED: ZeroDivisionError: integer division or modulo by zero",
        "not run: left out by --skip",
    ]


@pytest.mark.parametrize("backend", ["auto", "cluster"])
def test_wrong_farthest_points_are_noticed(monkeypatch: pytest.MonkeyPatch, backend: str):
    right = bench_ops.farthest_points

    def wrong(xyz: Tensor, num_points: int, name: str = "auto") -> Tensor:
        index = right(xyz, num_points, "torch")
        return index.flip(1) % 8 if name == backend else index

    monkeypatch.setattr(bench_ops, "farthest_points", wrong)
    with pytest.raises(AssertionError, match=f"'{backend}' gives a wrong result"):
        measure(bench_ops.sampling_case(2, 64, 16, SMALL), SMALL)


@pytest.mark.parametrize("backend", ["auto", "cluster"])
def test_wrong_neighbors_are_noticed(monkeypatch: pytest.MonkeyPatch, backend: str):
    right = bench_ops.knn

    def wrong(queries: Tensor, points: Tensor, num_neighbors: int, name: str = "auto") -> Tensor:
        index = right(queries, points, num_neighbors + 1, "torch")
        return index[..., 1:] if name == backend else index[..., :-1]

    monkeypatch.setattr(bench_ops, "knn", wrong)
    with pytest.raises(AssertionError, match=f"'{backend}' gives a wrong result"):
        measure(bench_ops.neighbor_case(2, 16, 64, 4, SMALL), SMALL)


def test_neighbors_in_another_order_of_ties_are_right_for_other_packages_alone():
    wrong = bench_ops.neighbor_case(1, 4, 8, 3, SMALL)
    index = wrong.variants["torch"]()
    wrong.check("torch", index)
    wrong.check("scipy", index)
    for name in ("torch", "scipy"):
        with pytest.raises(AssertionError):
            wrong.check(name, index.flip(2))


def test_a_wrong_grouping_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        bench_train.GroupBlock, "forward", lambda self, tokens: (replace(tokens, feats=tokens.feats), None)
    )
    with pytest.raises(AssertionError, match="'GroupBlock' gives a wrong result"):
        measure(bench_train.grouping_case(2, 32, 8, 4, False, SMALL), SMALL)


@pytest.mark.parametrize("place", [0, 1], ids=["output", "gradient"])
def test_wrong_attention_is_noticed(monkeypatch: pytest.MonkeyPatch, place: int):
    """Of sdpa alone: outputs doubled, or gradients doubled while outputs are right."""
    right = bench_attention.bi_attention

    def wrong(*parts: Any) -> tuple[Tensor, Tensor]:
        outs = right(*parts)
        if parts[-1] != "sdpa":
            return outs
        return tuple(2 * out if place == 0 else 2 * out - out.detach() for out in outs)

    monkeypatch.setattr(bench_attention, "bi_attention", wrong)
    with pytest.raises(AssertionError, match="forward.*'sdpa' gives a wrong result"):
        list(bench_attention.bench_attention(SMALL))


def test_results_are_compared_entry_by_entry_or_on_the_whole():
    ones = torch.ones(100)
    off = ones.clone()
    off[3] = 1.01
    assert_near([off], [ones], 0.002, mean=True)
    with pytest.raises(AssertionError, match="off by 1.0e-02 of the reference, 2e-03 is allowed"):
        assert_near([off], [ones], 0.002)
    with pytest.raises(AssertionError, match="shape"):
        assert_near([off[:1]], [ones], 1.0)


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch):
    def hide(name: str, *rest: Any) -> Any:
        if name == "torch_quickfps":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return imported(name, *rest)

    def refuse() -> None:
        raise InputError("backend 'triton' runs on CUDA tensors")

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", hide)
    package = bench_ops.sampling_case(2, 64, 16, SMALL).variants["torch-quickfps"]
    variants = {"reference": lambda: 1, "package": package, "refused": refuse, "skipped": not_run("too slow")}
    rows = {row["variant"]: row for row in measure(case(variants), CPU)}
    assert [rows[name]["note"] for name in ("package", "refused", "skipped")] == [
        "not run: torch_quickfps is not installed",
        "not run: backend 'triton' runs on CUDA tensors",
        "not run: too slow",
    ]
    assert rows["reference"]["speedup"] == 1.0 and rows["skipped"]["speedup"] is None


def test_a_compiler_that_fails_gives_a_row_with_its_reason(monkeypatch: pytest.MonkeyPatch):
    def fail(function: Callable, **settings: Any) -> Callable:
        def call(parts: list[Tensor]) -> None:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand much more")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(
        CannotRunError, match="^torch.compile failed: InvalidCxxCompiler: No working C.. compiler found$"
    ):
        compiled(len, CPU)([])


def test_medians_rates_and_targets_by_hand():
    """100 clouds in 10 and in 5 ms: twice as fast; 1 GB in 5 ms is half of 400 GB/s."""
    how = replace(CPU, copy_rate=400e9, matrix_rate=1e12)
    targets = [Target("fast", "speedup", 2), Target("fast", "speedup", 2.5), Target("absent", "median_ms", 1)]
    targets += [Target("fast", "median_ms", 5), Target("slow", "speedup", 0.5, over="fast")]
    given = case({}, items=100, unit="clouds", bytes=1e9, flops={"fast": 1e9}, targets=tuple(targets))
    given = replace(given, baseline="slow")
    times = {"slow": [9.0, 10.0, 30.0], "fast": [5.0, 4.0, 6.0]}
    slow, fast, absent = summarize(given, times, {"slow": {}, "fast": {}, "absent": {"note": "not run: why"}}, how)
    assert (slow["median_ms"], slow["min_ms"], slow["max_ms"], slow["turns"]) == (10.0, 9.0, 30.0, 3)
    assert (fast["speedup"], fast["per_second"], absent["speedup"]) == (2.0, 20_000, None)
    assert (fast["copy_percent"], fast["matrix_percent"]) == (pytest.approx(50), pytest.approx(20))
    assert "matrix_percent" not in slow
    assert [(target["what"], target["met"]) for target in fast["targets"]] == [
        ("at least 2x slow", True),
        ("at least 2.5x slow", False),
        ("at most 5 ms", True),
    ]
    assert slow["targets"] == [{"what": "at least 0.5x fast", "value": 0.5, "met": True}]
    assert bench.notes(absent) == "not run: why; target at most 1 ms: not measured"
    assert bench.count_targets([slow, fast, absent]).splitlines() == [
        "targets met: 3 of 5",
        "missed: one, fast, at least 2.5x slow",
        "not measured: one, absent, at most 1 ms",
    ]


def test_speedups_are_per_item():
    given = Case("sizes", "small", {}, items={"small": 10.0, "large": 100.0})
    rows = summarize(given, {"small": [1.0], "large": [20.0]}, {"small": {}, "large": {}}, CPU)
    assert rows[1]["speedup"] == pytest.approx(0.5)


def test_variants_take_turns_and_slow_ones_take_fewer(monkeypatch: pytest.MonkeyPatch):
    clock, order = [0.0], []

    def take(name: str, seconds: float) -> Callable[[], int]:
        def run() -> int:
            order.append(name)
            clock[0] += seconds
            return 1

        return run

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    variants = {"reference": take("a", 1.0), "slow": take("b", 4.0), "slowest": take("c", 11.0)}
    rows = measure(case(variants), replace(CPU, repeats=3))
    assert "".join(order) == "abc" + "abc" + "ab" + "ab" + "a"  # checks, warm-ups, turns
    assert [row["turns"] for row in rows] == [3, 2, 1] and rows[2]["median_ms"] == pytest.approx(11_000)


def make_process_number(seen: str) -> Callable[[], int]:
    """Return a variant that notes in a file in which process it runs."""

    def run() -> int:
        with open(seen, "a") as file:
            file.write(f"{os.getpid()} ")
        return 1

    return run


def test_variants_may_be_timed_in_processes_of_their_own(tmp_path: Path):
    files = {name: str(tmp_path / name) for name in ("reference", "other")}
    apart = {name: partial(make_process_number, file) for name, file in files.items()}
    rows = measure(replace(case({name: lambda: 1 for name in files}), apart=apart), replace(CPU, repeats=2))
    assert [row["turns"] for row in rows] == [2, 2]
    processes = [set(Path(file).read_text().split()) for file in files.values()]
    assert [len(numbers) for numbers in processes] == [1, 1]
    assert len({str(os.getpid())}.union(*processes)) == 3


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is known on Linux alone")
def test_memory_is_the_peak_of_a_fresh_process_beyond_what_is_returned():
    """The textbook form holds the similarity and a softmax of it at a time, and some more."""
    textbook = in_fresh_process(bench_attention.memory_of, "textbook", 1, 32_768, SMALL)
    similarity = 4e-6 * 6 * 64 * 32_768
    assert 2 * similarity < textbook < 5 * similarity


def test_kept_memory_by_hand():
    """sdpa keeps the logarithm of a sum for each row and each column; the textbook form two softmaxes at least."""
    attends, parts = bench_attention.implementations(SMALL), bench_attention.make_parts(2, 64, SMALL)
    kept = {form: bench_attention.kept_for_backward(attends[form], parts) for form in ("textbook", "sdpa")}
    assert kept["sdpa"] == pytest.approx(4e-6 * 2 * 6 * (64 + 64), rel=0.1)
    assert kept["textbook"] >= 2 * 4e-6 * 2 * 6 * 64 * 64


def test_a_fresh_process_has_as_many_threads():
    assert in_fresh_process(torch.get_num_threads) == torch.get_num_threads()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--repeats=0"], "--repeats must be at least 1, not 0"),
        (["--threads=-1"], "--threads must be at least 1, not -1"),
        pytest.param(
            ["--device=cuda"],
            "no CUDA device was found: use --device auto or cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_nonsense_is_refused_with_one_sentence(arguments: list[str], sentence: str):
    with pytest.raises(InputError, match=sentence):
        bench.main(arguments)
