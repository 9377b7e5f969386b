"""Keep freed memory in the process, or return it to the system at once: settings of malloc."""

import ctypes
import sys

from bixt3d.io.memory import memory_limit

LARGE = 2**23
"""Bytes from which arrays count as large: those of a block of points, not those of a window that a model reads."""


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


def return_freed_memory() -> None:
    """Make glibc return every large array to the system when it is freed.

    By default it learns to keep arrays of up to 32 MB: between them, holes stay that no later array fits into.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc has it, musl does not
            libc.mallopt(-3, LARGE)  # M_MMAP_THRESHOLD: larger ones get a mapping of their own


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
