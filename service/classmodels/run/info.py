"""What `classmodels info` tells: versions, devices, backends and why one is missing."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from classmodels.errors import ClassmodelsError
from classmodels.models.remote.cache import MIRROR
from classmodels.models.remote.place import amount, find_limit, find_place
from classmodels.models.remote.room import size_of
from classmodels.ops import extension
from classmodels.ops.backend import BACKENDS, missing
from classmodels.run.machine import available_cpus, total_memory

PACKAGES = ("classmodels", "torch", "torchvision", "timm", "transformers", "numpy", "pillow", "boto3")


def collect() -> dict[str, dict[str, Any]]:
    """Facts by part: versions, devices, backends, ...; plain values, fit for JSON."""
    memory = f"{total_memory() / 2**30:.1f} GiB"
    devices: dict[str, Any] = {
        "cpu": f"{available_cpus()} processors, {memory}, {torch.backends.cpu.get_cpu_capability()}"
    }
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = f"{facts.name}, {facts.total_memory / 2**30:.1f} GiB, sm_{facts.major}{facts.minor}"
    if not torch.cuda.is_available():
        why = "no device is visible" if torch.version.cuda else "this torch is built for the CPU only"
        devices["cuda"] = f"missing: {why}"
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "devices": devices,
        "backends": {
            name: f"missing: {reason}" if (reason := missing(name)) else "available"
            for name in BACKENDS
            if name != "auto"
        },
        "extension": extension.describe(),
        "user code": {"torch.compile": _compiling()},
        "cache": _cache(),
    }


def _compiling() -> str:
    """What torch.compile does; the image, which has no compiler, switches it off."""
    switch = "TORCHDYNAMO_DISABLE"
    return f"off: {switch} is set" if os.environ.get(switch) == "1" else "on"


def _cache() -> dict[str, str]:
    """Where fetched checkpoints are kept."""
    try:
        place = find_place()
        if (place / MIRROR).is_file():
            return {"place": f"{place}, a mirror", "holds": amount(size_of(place))}
        return {"place": str(place), "holds": f"{amount(size_of(place))} of {amount(find_limit(place))}"}
    except (ClassmodelsError, OSError) as error:
        return {"place": f"missing: {error}"}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
