"""What benchmarks/step.py must know of the machine, and what its results say about it."""

import os
import platform
import subprocess
from pathlib import Path

import torch

from classmodels.ops import extension

MOST_MEMORY = 10 * 2**30
CPUS = Path("/sys/devices/system/cpu")


def caches() -> dict[str, int]:
    """Bytes of each level of data cache that this process' CPUs have between them."""
    found: dict[str, dict[str, int]] = {}
    for cpu in os.sched_getaffinity(0):
        for index in (CPUS / f"cpu{cpu}" / "cache").glob("index*"):
            level, kind, size, shared = (
                (index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
            )
            if kind != "Instruction":
                found.setdefault(f"L{level}", {})[shared] = int(size.removesuffix("K")) * 1024
    return {level: sum(each.values()) for level, each in sorted(found.items())}


def last_cache(device: torch.device) -> int:
    """Bytes of the last cache before memory; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    sizes = caches()
    return sizes[max(sizes)] if sizes else 0


def memory(device: torch.device) -> int:
    """Bytes that the benchmark may use: half of what is free, and no more than MOST_MEMORY."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max")
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            free = min(free, int(text) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return min(free // 2, MOST_MEMORY)


def name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {len(os.sched_getaffinity(0))} CPUs"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def facts(device: torch.device) -> dict[str, object]:
    found: dict[str, object] = {
        "device": name(device),
        "processor": processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "caches": caches(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "git": commit(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    if extension.compiled is not None:
        found |= {"extension": extension.compiled.facts(), "cpu_variant": extension.compiled.variant()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory": properties.total_memory,
            "l2": properties.L2_cache_size,
            "cuda_of_torch": torch.version.cuda,
        }
    return found


def commit() -> str:
    """The commit that is checked out, with `+` where tracked or new files of code differ from it."""
    here = Path(__file__).parents[1]
    try:
        sha, changes = (
            subprocess.run(["git", *what], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for what in (
                ("rev-parse", "--short=12", "HEAD"),
                ("status", "--porcelain", "--", "csrc", "service", "benchmarks/*.py"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return sha + ("+" if changes else "")
