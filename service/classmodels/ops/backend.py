"""Which implementation of the ops runs: `torch` here always; `cpp` and `cuda` where the extension was built.

A forced choice that cannot be had is an error that says why; `auto` takes the best one there is.
"""

from classmodels.errors import InputError

BACKENDS = ("auto", "cuda", "cpp", "torch")


def missing(backend: str) -> str | None:
    """Why `backend` cannot be used here, or None where it can."""
    if backend in ("auto", "torch"):
        return None
    return "this build of classmodels has no compiled extension"


def choose(backend: str) -> str:
    """The backend to use for a request: one of cuda, cpp, torch.

    Raises InputError where `backend` is unknown or was forced and is missing.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r}: expected one of {', '.join(BACKENDS)}")
    reason = missing(backend)
    if reason:
        raise InputError(f"backend {backend!r} is not available: {reason}; use --backend auto or torch")
    return "torch"
