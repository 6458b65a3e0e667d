"""One step of the ascent from the gradient on: normalise, move, regularise, clamp. And total variation, which it needs.

`step` is what the loop calls; `reference` says what every backend must compute, in float32 or float64. The
mathematics is DESIGN's "One step": d is the direction, L2 and TV enter through their gradients, L1 through its
proximal map, the box last. The compiled step is csrc/step.cpp and csrc/step.cu.
"""

import math

import torch
from torch import Tensor

from classmodels.ops.extension import compiled

TV_EPSILON = 1e-3
ADAM_EPSILON = 1e-8
NORM_FLOOR = 1e-12

NORMS = ("none", "rms", "l2")

COEFFICIENTS = ("lr", "m_keep", "m_add", "m_correct", "v_keep", "v_add", "v_correct", "l2", "l1", "tv")
"""Columns of the tensor that holds all that may change by step or by image, in the order of csrc/step.h."""


def coefficients(
    t: int, *, lr: float, momentum: float = 0, beta2: float = 0, l2: float = 0, l1: float = 0, tv: float = 0
) -> tuple[float, ...]:
    """The row of coefficients of step t, counted from 1: one number for each of COEFFICIENTS.

    The first moment is m = momentum * m + (1 - momentum) * g, the second likewise with beta2 and g^2; both are
    divided by 1 - beta^t, which takes out their bias towards 0 (Kingma and Ba 2015, section 3).
    """
    first = (momentum, 1 - momentum, 1 / (1 - momentum**t))
    second = (beta2, 1 - beta2, 1 / (1 - beta2**t))
    return (lr, *first, *second, l2, l1, tv)


def workspace(x: Tensor) -> Tensor:
    """Scratch for `step` on x [N, C, H, W]: the partial sums of the gradients' squares, float64 on x's device."""
    partials = compiled.partials_of(math.prod(x.shape[1:])) if compiled is not None else 0
    return torch.empty(len(x), partials, dtype=torch.float64, device=x.device)


def step(
    x: Tensor,
    g: Tensor,
    m: Tensor | None,
    v: Tensor | None,
    failed: Tensor,
    coefficients: Tensor,
    *,
    norm: str,
    x0: Tensor,
    low: Tensor,
    high: Tensor,
    out: Tensor | None = None,
    partial: Tensor,
    backend: str = "torch",
) -> Tensor:
    """Take one step and return the new image: x itself, changed in place, or `out`.

    x: float32 [N, C, H, W], contiguous or channels_last (float64 too for `torch`). g: the gradient, of x's shape;
    float32, bfloat16 or float16. m, v: moments of x's shape and dtype, changed in place; without both the step is
    plain gradient ascent, with m momentum, with both Adam. failed: bool [N], set where an image's g is not finite;
    such an image and its moments stay as they are, and no other is touched. coefficients: [1, 10] or [N, 10] of x's
    dtype, rows as `coefficients` makes them. norm: of the gradient of each image, `none`, `rms` or `l2`. x0, low,
    high: [C] of x's dtype: the image the penalties pull to, and the box (infinite where there is none). out: of x's
    shape and layout; where it is given total variation is part of the step, and x stays as it was; without it `tv`
    is ignored. partial: see `workspace`. backend: see `backend.choose`.

    Nothing is allocated and the host waits for nothing (but with `torch`), so that a CUDA graph can replay the step.
    Raises RuntimeError where an argument has the wrong shape, dtype, device or layout.
    """
    if backend == "torch":
        moved = reference(x, g, m, v, failed, coefficients, norm=norm, x0=x0, low=low, high=high, tv=out is not None)
        return (x if out is None else out).copy_(moved)
    arguments = (x, g, m, v, failed, partial, coefficients, x0, low, high, NORMS.index(norm), out)
    torch.ops.classmodels.step_(*arguments)
    changed = [tensor for tensor in (x if out is None else out, m, v, failed, partial) if tensor is not None]
    torch.autograd.graph.increment_version(changed)
    return x if out is None else out


def reference(
    x: Tensor,
    g: Tensor,
    m: Tensor | None,
    v: Tensor | None,
    failed: Tensor,
    coefficients: Tensor,
    *,
    norm: str,
    x0: Tensor,
    low: Tensor,
    high: Tensor,
    tv: bool,
) -> Tensor:
    """The image after one step, a new tensor; m, v and failed are changed in place. Arguments as for `step`."""
    c = dict(zip(COEFFICIENTS, coefficients.view(-1, len(COEFFICIENTS), 1, 1, 1).unbind(1), strict=True))
    x0, low, high = (values.view(1, -1, 1, 1) for values in (x0, low, high))
    failed |= ~torch.isfinite(g).all(dim=(1, 2, 3))
    keep = failed.view(-1, 1, 1, 1)
    g = normalise(g.to(x.dtype).masked_fill(keep, 0), norm)
    direction = g
    if m is not None:
        m.copy_(torch.where(keep, m, c["m_keep"] * m + c["m_add"] * g))
        direction = m * c["m_correct"]
    if v is not None:
        v.copy_(torch.where(keep, v, c["v_keep"] * v + c["v_add"] * (g * g)))
        direction = direction / ((v * c["v_correct"]).sqrt() + ADAM_EPSILON)
    direction = direction - 2 * c["l2"] * (x - x0)
    if tv:
        direction = direction - c["tv"] * tv_gradient(x)
    z = x + c["lr"] * direction
    offset, threshold = z - x0, c["lr"] * c["l1"]
    z = torch.where(offset.abs() <= threshold, x0, z - threshold.copysign(offset))
    return torch.where(keep, x, torch.minimum(torch.maximum(z, low), high))


def normalise(g: Tensor, norm: str) -> Tensor:
    """g / max(norm, 1e-12), with the norm of each image: `none` (1), `rms` or `l2`.

    In float64, for a float32 has no room for the squares of numbers beyond 2e19, nor for a norm of many near its end.
    """
    if norm == "none":
        return g
    size = torch.linalg.vector_norm(g, dim=(1, 2, 3), keepdim=True, dtype=torch.float64)
    if norm == "rms":
        size = size / g[0].numel() ** 0.5
    return (g / size.clamp_min(NORM_FLOOR)).to(g.dtype)


def total_variation(x: Tensor) -> Tensor:
    """TV of each image of x [N, C, H, W]: sum(sqrt(dx^2 + dy^2 + e^2) - e) over channels and pixels; returns [N].

    Forward differences, 0 at the last column and row (Rudin, Osher, Fatemi 1992, smoothed by e = 1e-3).
    """
    dx, dy = _differences(x)
    return (torch.sqrt(dx * dx + dy * dy + TV_EPSILON**2) - TV_EPSILON).sum(dim=(1, 2, 3))


def tv_gradient(x: Tensor) -> Tensor:
    """The gradient of `total_variation` at x, of x's shape and dtype."""
    dx, dy = _differences(x)
    inverse = torch.rsqrt(dx * dx + dy * dy + TV_EPSILON**2)
    px, py = dx * inverse, dy * inverse
    gradient = -(px + py)
    gradient[..., :, 1:] += px[..., :, :-1]
    gradient[..., 1:, :] += py[..., :-1, :]
    return gradient


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    dx, dy = torch.zeros_like(x), torch.zeros_like(x)
    dx[..., :, :-1] = x[..., :, 1:] - x[..., :, :-1]
    dy[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    return dx, dy
