"""How much memory a process may use, and has used."""

import os
import sys
from pathlib import Path


def peak_of_process(status: Path = Path("/proc/self/status")) -> int:
    """Return the most bytes of memory that this process has used; 0 where the system does not say.

    Linux counts in ``ru_maxrss`` also the memory of the process that started this one, so VmHWM is read first.
    """
    try:
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        pass
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_limit(root: Path = Path("/")) -> int:
    """Return the bytes that this process may use: those of the machine, or the limit of its control group (v1, v2).

    ``root``: folder that contains /proc and /sys.
    """
    if not hasattr(os, "sysconf"):  # Windows: unknown
        return sys.maxsize
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return limits[0]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers:  # version 2
            limits += _limits(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return min(limits)


def _limits(base: Path, path: str, name: str) -> list[int]:
    """Return the limits of a control group and its parents; in a container its own may be at the base."""
    own = base / path.lstrip("/")
    found = []
    for folder in (own, *own.parents):
        if not folder.is_relative_to(base):
            break
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # else "max": no limit
            found.append(int(text))
    return found
