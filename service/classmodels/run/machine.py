"""What this machine has: processors and memory, as far as this process may use them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> int:
    """Processors this process may use: its affinity, or the control group's quota where that is less; at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no control group, or version 1: the affinity stands
    return count


def total_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes of main memory, or the control group's limit where that is less. Not what is free just now: that varies."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int((cgroup / "memory.max").read_text()))
    except (OSError, ValueError):
        return total


# Of malloc.h: which setting mallopt() is to change.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4


@contextmanager
def memory_kept() -> Iterator[None]:
    """Within this, memory that was freed is used again; afterwards what is free goes back to the system.

    glibc asks the system for every piece above 32 MiB, and gives it back at once: the pages of large activations
    would be zeroed anew at every step, a third of the time of a step. Other C libraries are left alone.
    """
    libc = ctypes.CDLL(None)
    try:
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except AttributeError:
        yield
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        mallopt(_M_MMAP_MAX, 1 << 16)  # glibc's own, but for the thresholds: as far as it moves them by itself
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)
        trim(0)
