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
            f"the compiled extension was built without CUDA ({extension.facts()['without_cuda']}); "
            "install classmodels again where nvcc is and torch sees a GPU, or with FORCE_CUDA=1"
        )
    if backend == "cuda" and (torch.version.cuda is None or not torch.cuda.is_available()):
        return "torch sees no CUDA device"
    kind = "cuda" if backend == "cuda" else "cpu"
    if device is not None and device.type != kind:
        return f"it works on {kind} devices, and the device is {device}"
    return _no_code(device) if backend == "cuda" else None


def _no_code(device: torch.device | None) -> str | None:
    """Why the extension's CUDA code runs on no GPU here (on `device`, if one is given); None where it does."""
    codes = extension.facts()["architectures"]
    devices = range(torch.cuda.device_count()) if device is None else [device]
    capabilities = sorted({torch.cuda.get_device_capability(each) for each in devices})
    if any(runs(code, capability) for code in codes for capability in capabilities):
        return None
    found = ", ".join("{}.{}".format(*capability) for capability in capabilities)
    return (
        f"the compiled extension has CUDA code for {', '.join(codes)}, and none for compute capability {found}; "
        f"install classmodels again with TORCH_CUDA_ARCH_LIST='{found}'"
    )


def runs(code: str, capability: tuple[int, int]) -> bool:
    """Whether a GPU of `capability` runs `code`, as nvcc names it.

    Machine code (sm_86) runs where the major version is the same and the minor one no less, PTX (compute_86) wherever
    the version is no less. With the features of one architecture (sm_90a) either runs on that alone, with those of a
    family (sm_120f) within the major version.
    """
    kind, _, number = code.partition("_")
    features = number.lstrip("0123456789")
    version = divmod(int(number.removesuffix(features)), 10)
    if features == "a":
        return version == capability
    return version <= capability and (version[0] == capability[0] or (kind == "compute" and not features))


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
