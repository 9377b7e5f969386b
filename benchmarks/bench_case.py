"""What a benchmark compares, and the rows of its table: medians, spread, speedups, rates, and targets."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Run = Callable[[], Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """What a variant has to reach: a bound on a value of its row, compared with ``over``, or the baseline."""

    variant: str
    value: str
    bound: float
    over: str = ""


@dataclass(frozen=True)
class Case:
    """Variants of one thing on the same data.

    ``check(variant, result)`` raises AssertionError for a wrong result. ``items``: clouds or points that a call works
    on, of all variants or of each; speedups are per item. ``bytes`` and ``flops``: the least that any form has to move
    and to compute. ``more(variant)``: further columns, worked out after the check. ``clock``: see bench_measure.
    ``apart``: what makes each variant anew, with data of its own, where it is timed in a process of its own.
    """

    title: str
    baseline: str
    variants: Mapping[str, Run]
    check: Callable[[str, Any], None] = lambda name, result: None
    items: float | Mapping[str, float] = 1.0
    unit: str = "calls"
    bytes: float = 0.0
    flops: float | Mapping[str, float] = 0.0
    more: Callable[[str], Row] = lambda name: {}
    clock: Literal["device", "wall"] = "device"
    apart: Mapping[str, Callable[[], Run]] | None = None
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class How:
    """Where and how often to measure. ``seconds``: what the turns of one variant may take; at least one is taken.

    ``skip``: regular expression of variants to leave out; ``keep_going``: give a wrong variant a row, and go on.
    ``copy_rate``: bytes per second, read and written; ``matrix_rate``: operations per second of bfloat16 products.
    """

    device: torch.device
    repeats: int = 7
    small: bool = False
    seconds: float = 10.0
    copy_rate: float | None = None
    matrix_rate: float | None = None
    skip: str | None = None
    keep_going: bool = False
    buffer: Tensor = field(default_factory=lambda: torch.empty(0), repr=False)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def precision(self) -> torch.autocast:
        """Return the precision that our programs take: bfloat16 where it is enough on GPUs, float32 on CPUs."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_gpu)


def summarize(case: Case, times: Mapping[str, list[float]], columns: Mapping[str, Row], how: How) -> list[Row]:
    """Return the rows of a case from the times of its variants in ms, and from columns that are known already."""
    named = {"case": case.title, "baseline": case.baseline, "unit": case.unit}
    rows = {name: named | {"variant": name} | known for name, known in columns.items()}
    for name, taken in times.items():
        median = statistics.median(taken)
        rows[name] |= {"median_ms": median, "min_ms": min(taken), "max_ms": max(taken), "turns": len(taken)}
        rows[name]["per_second"] = 1e3 * _of(case.items, name) / median
        for column, work, rate in (("copy", case.bytes, how.copy_rate), ("matrix", case.flops, how.matrix_rate)):
            if rate and _of(work, name):
                rows[name][f"{column}_percent"] = 1e5 * _of(work, name) / rate / median
    for row in rows.values():
        row["speedup"] = _speedup(row, rows.get(case.baseline, {}))
    for target in () if how.small else case.targets:
        rows[target.variant].setdefault("targets", []).append(judge(target, case, rows))
    return list(rows.values())


def _of(value: float | Mapping[str, float], name: str) -> float:
    return value.get(name, 0.0) if isinstance(value, Mapping) else value


def _speedup(row: Row, other: Row) -> float | None:
    if "per_second" in row and "per_second" in other:
        return row["per_second"] / other["per_second"]
    return None


WORDS = {
    "speedup": ("at least", "{bound:g}x {over}"),
    "per_second": ("at least", "{bound:,g} {unit}/s"),
    "copy_percent": ("at least", "{bound:g} % of copying"),
    "median_ms": ("at most", "{bound:g} ms"),
    "memory_mb": ("at most", "{bound:,.0f} MB"),
    "process_mb": ("at most", "{bound:,.0f} MB in the whole process"),
    "kept_mb": ("at most", "{bound:.3g} MB kept for backward"),
}
"""Values that may have a bound: on which side of it they should be, and how to say it."""


def judge(target: Target, case: Case, rows: Mapping[str, Row]) -> Row:
    """Return a target in words, the value that was found, and whether it is met; None where it was not measured."""
    over = target.over or case.baseline
    row, other = rows[target.variant], rows.get(over, {})
    value = _speedup(row, other) if target.value == "speedup" else row.get(target.value)
    side, words = WORDS[target.value]
    met = None if value is None else value >= target.bound if side == "at least" else value <= target.bound
    said = words.format(bound=target.bound, over=over, unit=case.unit)
    return {"what": f"{side} {said}", "value": value, "met": met}
