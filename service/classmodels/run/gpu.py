"""Whether a GPU can be used here, and if not why, in words: a driver that is missing or too old, kernels for others.

Asked once, before a worker begins, so that a node that cannot do the work says so at once; and again where a network
breaks down on a GPU, to tell a fault of the device from one of the network.
"""

import os
import re

import torch

from classmodels.errors import InputError, MachineError
from classmodels.models.user_code import first_line
from classmodels.ops.step import coefficients, step, workspace
from classmodels.run.numerics import Machine, choose_machine, named_device


def choose_worker_machine(device: str, backend: str, require_cuda: bool) -> tuple[Machine, str | None]:
    """Where a worker computes, and why that is not on a GPU, if it might have been.

    A GPU that is required, or named, is used or MachineError is raised: on another node there may be one. Raises
    InputError for a request that no machine could fulfil.
    """
    if require_cuda and (device == "cpu" or backend == "cpp"):
        found = "--device cpu" if device == "cpu" else "--backend cpp"
        raise InputError(f"found {found} beside --require-cuda, expected one of them")
    if device == "cpu" or (device == "auto" and backend == "cpp"):
        return choose_machine(device, backend), None
    named = named_device("cuda" if device == "auto" else device)
    why = why_not(named)
    if why is None:
        machine = choose_machine(str(named), backend)
        why = broken(machine)
        if why is None:
            return machine, None
    if require_cuda or device != "auto" or backend == "cuda":
        raise MachineError(f"{named} cannot be used on this machine: {why}")
    return choose_machine("cpu", backend), why


def why_not(device: torch.device) -> str | None:
    """Why `device`, cuda or cuda:N, cannot be used, before anything is computed; None where it can."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"this torch ({torch.__version__}) is built for the CPU only: use an image with one for CUDA"
    try:
        torch.cuda.init()
    except Exception as error:  # torch's own errors, of several kinds
        return _explain(str(error)) or f"CUDA does not start: {first_line(error)}"
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        return f"there is no {device}: torch sees {count} CUDA device{'' if count == 1 else 's'}{_visible()}"
    return None


def broken(machine: Machine) -> str | None:
    """Why the GPU of `machine` fails at the simplest computation; None where it does not, or there is none."""
    if machine.device.type != "cuda":
        return None
    try:
        compute(machine)
    except Exception as error:
        if "no kernel image" in str(error):
            major, minor = torch.cuda.get_device_capability(machine.device)
            return (
                f"{torch.cuda.get_device_name(machine.device)} is of the architecture sm_{major}{minor}, for which the"
                f" backend {machine.backend} has no kernel here (torch has {', '.join(torch.cuda.get_arch_list())}):"
                " use an image that was built for it"
            )
        return _explain(str(error)) or f"it fails at the simplest computation: {first_line(error)}"
    return None


def compute(machine: Machine) -> None:
    """A step of a single pixel, by torch's kernels and by those of the backend; raises what they do."""
    x = torch.ones(1, 1, 1, 1, device=machine.device)
    row = torch.tensor([coefficients(1, lr=1.0)], device=machine.device)
    bound = torch.full((1,), 3.0, device=machine.device)
    failed = torch.zeros(1, dtype=torch.bool, device=machine.device)
    moved = step(
        x,
        torch.ones_like(x),
        None,
        None,
        failed,
        row,
        norm="none",
        x0=torch.zeros_like(bound),
        low=-bound,
        high=bound,
        partial=workspace(x),
        backend=machine.backend,
    )
    if moved.item() != 2.0:
        raise RuntimeError(f"1 + 1 is {moved.item()}")


def _explain(said: str) -> str | None:
    """What CUDA or torch said when it did not start, as a sentence about this machine; None for anything else."""
    if "NVIDIA driver on your system is too old" in said:
        found = re.search(r"found version (\d+)", said)
        knows = f" (it knows CUDA {int(found[1]) // 1000}.{int(found[1]) % 1000 // 10})" if found else ""
        return (
            f"the NVIDIA driver is too old{knows} for this torch, which is built with CUDA {torch.version.cuda}:"
            " update the node's driver, or use an image for an older CUDA"
        )
    if "no NVIDIA driver" in said:
        return (
            "there is no NVIDIA driver: the node has no GPU, or the container runtime does not hand it on; ask for one"
            " with cluster.gpu, and look at the node's device plugin"
        )
    if "No CUDA GPUs are available" in said or "no CUDA-capable device" in said:
        return f"there is no such device: torch sees no GPU{_visible()}; ask for one with cluster.gpu"
    return None


def _visible() -> str:
    """What the environment leaves to be seen, where it says so."""
    names = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
    said = [f"{name}={os.environ[name]!r}" for name in names if name in os.environ]
    return f" (the environment says {', '.join(said)})" if said else ""
