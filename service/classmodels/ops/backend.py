"""Which implementation of the ops runs: `cuda` and `cpp` are the compiled extension on its device, `torch` is
PyTorch, anywhere. A forced choice that cannot be had is an error that says why; `auto` takes the best there is.
"""

import torch

from classmodels.errors import InputError
from classmodels.ops import extension

BACKENDS = ("auto", "cuda", "cpp", "torch")


def missing(backend: str, device: torch.device | None = None) -> str | None:
    """Why `backend` cannot be used here, on `device` if one is given; None where it can."""
    if backend in ("auto", "torch"):
        return None
    if extension.compiled is None:
        return extension.why_not
    if backend == "cuda" and not extension.has_cuda():
        return (
            "the compiled extension was built without CUDA; "
            "install classmodels again where torch sees a GPU, or with FORCE_CUDA=1"
        )
    if backend == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device"
    kind = "cuda" if backend == "cuda" else "cpu"
    if device is not None and device.type != kind:
        return f"it works on {kind} devices, and the device is {device}"
    return None


def choose(backend: str, device: torch.device) -> str:
    """The backend to use for a request on `device`: one of cuda, cpp, torch.

    Raises InputError where `backend` is unknown or was forced and is missing.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r}: expected one of {', '.join(BACKENDS)}")
    reason = missing(backend, device)
    if reason:
        raise InputError(f"backend {backend!r} is not available: {reason}; or use --backend auto")
    if backend != "auto":
        return backend
    best = "cuda" if device.type == "cuda" else "cpp"
    return "torch" if missing(best, device) else best
