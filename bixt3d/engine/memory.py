"""Keep freed memory in the process (malloc settings), and find how much memory a process may use."""

import ctypes
import os
import sys
from pathlib import Path


def keep_freed_memory() -> None:
    """Make glibc keep freed memory, instead of returning every large tensor to the system at once.

    Saves the page faults that made a training step 1.16 times slower on two CPU threads (docs/performance.md). The
    process never shrinks, and fragmentation makes it larger: not for data that fill the memory.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc has it, musl does not
            libc.mallopt(-4, 0)  # M_MMAP_MAX: no tensor in a mapping of its own
            libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: give nothing at the top of the heap back
            _ask_for_huge_pages(libc, memory_limit() // 2)


def _ask_for_huge_pages(libc: ctypes.CDLL, size: int) -> None:
    """Request huge pages of 2 MB for the next ``size`` bytes of the heap, or as many as the system allows.

    Reserves addresses only, no memory yet.
    """
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.free.argtypes = [ctypes.c_void_p]
    page = 2**21
    while size > 2 * page and not (block := libc.malloc(size)):
        size //= 2
    if size > 2 * page:
        libc.madvise(-(-block // page) * page, size - page, 14)  # MADV_HUGEPAGE; no effect in a kernel without it
        libc.free(block)


def memory_limit(root: Path = Path("/")) -> int:
    """Return the bytes that this process may use: those of the machine, or the limit of its control group (v1, v2).

    ``root``: folder that contains /proc and /sys.
    """
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
