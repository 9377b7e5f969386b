"""How much memory a process may use."""

import os
import sys
from pathlib import Path


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
