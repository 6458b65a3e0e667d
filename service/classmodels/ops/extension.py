"""The compiled operators (csrc/): whether they are there, why not, and what torch.compile must know of them.

Importing this module loads them; `torch.ops.classmodels.step_` and the others exist from then on.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


def _load() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("classmodels._C"), ""
    except ModuleNotFoundError:
        try:
            why = (Path(__file__).parents[1] / "_C.missing.txt").read_text(encoding="utf-8").strip()
        except OSError:
            why = "it was not built, or was removed; install classmodels again"
        return None, f"there is no compiled extension: {why}"
    except ImportError as error:
        return None, f"the compiled extension does not load ({error}); install classmodels again, beside this torch"


compiled, why_not = _load()
"""The module `classmodels._C` (see csrc/bindings.cpp) or None; and then the reason, a clause."""


def facts() -> dict[str, Any]:
    """What the extension tells of its build, see csrc/bindings.cpp; it must be there."""
    assert compiled is not None
    return compiled.facts()


def has_cuda() -> bool:
    """Whether the extension was built with its CUDA kernels."""
    return compiled is not None and facts()["cuda"] is not None


def describe() -> dict[str, object]:
    """Facts about the extension for `info`: plain values."""
    if compiled is None:
        return {"extension": f"missing: {why_not}"}
    built = facts()
    return {
        "compiler": built["compiler"],
        "cpu variant": f"{compiled.variant()} of {', '.join(compiled.variants())}",
        "cuda": ", ".join([built["cuda"], *built["architectures"]])
        if built["cuda"]
        else f"not built: {built['without_cuda']}",
    }


if compiled is not None:
    # They write to their arguments and return nothing: for tracing there is nothing to work out.
    for _name in ("step_", "blur_", "clip_", "affine_", "affine_adjoint_"):
        torch.library.register_fake(f"classmodels::{_name}")(lambda *arguments: None)
