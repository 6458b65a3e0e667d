"""Numerics: everything that may change bits without changing the mathematics, chosen before a batch begins.

Chosen from a table by what the device can do, never by a stopwatch, so that the same machine chooses the same
again. They are written into every record; for equal numerics images are equal byte for byte.
"""

import os
import platform
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from classmodels.ascent.loop import Numerics
from classmodels.ascent.recipe import Recipe
from classmodels.errors import InputError
from classmodels.models.classifier import Classifier
from classmodels.ops import backend as backends
from classmodels.ops import extension
from classmodels.run.machine import available_cpus, total_memory

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

# Largest batch worth having, by kind of device; measured on two cores, where 2 is 30 % slower and 12 no faster.
LARGEST_BATCH = {"cpu": 4, "cuda": 64}


ARITHMETIC = 2
"""Of the loop itself, beside what the other numerics name: one more whenever its bits change."""


@dataclass(frozen=True)
class Machine:
    """Where the ascent runs: the device and the backend of the ops."""

    device: torch.device
    backend: str


def choose_machine(device: str = "auto", backend: str = "auto") -> Machine:
    """The device and backend for a request. Raises InputError where one was asked for by name and is missing."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and backend != "cpp" else "cpu"
    chosen = named_device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r} is not available: torch sees {torch.cuda.device_count()} CUDA devices")
    machine = Machine(chosen, backends.choose(backend, chosen))
    if chosen.type == "cpu":
        # OMP_NUM_THREADS is how people, and tests side by side, ask for fewer.
        asked = os.environ.get("OMP_NUM_THREADS", "")
        torch.set_num_threads(
            min(available_cpus(), int(asked)) if asked.isdecimal() and int(asked) else available_cpus()
        )
    else:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    return machine


def named_device(name: str) -> torch.device:
    """The device called `name`, whether or not it is there. Raises InputError where none is called so."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r}: expected auto, cpu, cuda or cuda:N") from error
    if device.type not in LARGEST_BATCH:
        raise InputError(f"device {name!r} is not supported: expected auto, cpu, cuda or cuda:N")
    return device


def precision(requested: str, device: torch.device) -> str:
    """The network's arithmetic for a recipe's `precision`: `auto` takes bf16 where the hardware computes in it."""
    if requested != "auto":
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if getattr(torch.cpu, "_is_avx512_bf16_supported", bool)() else "fp32"


@dataclass(frozen=True)
class Choice:
    """The numerics of a batch: what the loop needs, the padded batch size, and the description for the record."""

    loop: Numerics
    batch: int
    described: dict[str, Any]
    nondeterministic: tuple[str, ...]

    def with_batch(self, batch: int) -> "Choice":
        return Choice(self.loop, batch, {**self.described, "batch": batch}, self.nondeterministic)


def choose(classifier: Classifier, recipe: Recipe, machine: Machine, frames: int = 0) -> Choice:
    """The numerics for units of `classifier` under `recipe` on `machine`. frames: pictures kept for each film."""
    device = machine.device
    name = precision(recipe.precision, device)
    layout = torch.channels_last
    loop = Numerics(DTYPES[name], layout, machine.backend)
    largest = LARGEST_BATCH[device.type]
    spent = _bytes_per_image(classifier, loop, device)
    if device.type == "cuda":
        budget = torch.cuda.mem_get_info(device)[1]
    else:
        budget = total_memory()
        spent += frames * classifier.input.channels * classifier.input.size[0] * classifier.input.size[1]
    batch = 1
    while batch < largest and 2 * batch * spent <= budget // 2:
        batch *= 2
    cuda = device.type == "cuda"
    described = {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "isa": None if cuda else torch.backends.cpu.get_cpu_capability(),
        "backend": machine.backend,
        "variant": extension.compiled.variant() if extension.compiled and machine.backend == "cpp" else None,
        "dtype": name,
        "threads": 0 if cuda else torch.get_num_threads(),
        "batch": batch,
        "layout": "channels_last",
        "folded": classifier.folded,
        "arithmetic": ARITHMETIC,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "tf32": torch.backends.cudnn.allow_tf32 if cuda else None,
    }
    nondeterministic = [] if classifier.deterministic else ["the network itself"]
    if cuda and recipe.transforms.active and machine.backend == "torch":
        nondeterministic.append("grid_sampler_2d_backward")
    return Choice(loop, batch, described, tuple(nondeterministic))


def _bytes_per_image(classifier: Classifier, loop: Numerics, device: torch.device) -> int:
    """What one more image costs: the activations kept for the backward pass, and as much again to work in."""
    weights = chain(classifier.net.parameters(), classifier.net.buffers())
    owned = {tensor.untyped_storage().data_ptr() for tensor in weights}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    height, width = classifier.input.size
    x = torch.zeros(1, classifier.input.channels, height, width, device=device, requires_grad=True)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(device.type, dtype=loop.autocast or torch.bfloat16, enabled=loop.autocast is not None),
    ):
        classifier.logits(x.contiguous(memory_format=loop.layout))
    return 2 * sum(kept.values()) + 16 * x.nbytes


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the device, or the machine, has no memory left."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
