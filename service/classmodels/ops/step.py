"""One step of the ascent from the gradient on: normalise, move, regularise, clamp. And total variation, which it needs.

The reference of the fused step: it says what every other backend must compute, in float32 or float64. The
mathematics is DESIGN's "One step": d is the direction, L2 and TV enter through their gradients, L1 through its
proximal map, the box last.
"""

import torch
from torch import Tensor

TV_EPSILON = 1e-3
ADAM_EPSILON = 1e-8
NORM_FLOOR = 1e-12


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


def normalise(g: Tensor, kind: str) -> Tensor:
    """g / max(norm, 1e-12), with the norm of each image: `none` (1), `rms` or `l2`."""
    if kind == "none":
        return g
    norm = torch.linalg.vector_norm(g, dim=(1, 2, 3), keepdim=True)
    if kind == "rms":
        norm = norm / g[0].numel() ** 0.5
    return g / norm.clamp_min(NORM_FLOOR)


def step(
    x: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor | None,
    failed: Tensor,
    *,
    t: int,
    lr: float,
    optimizer: str,
    momentum: float,
    betas: tuple[float, float],
    normalize: str,
    l2: float,
    l1: float,
    tv: float,
    x0: Tensor,
    box: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """The image after one step; m, v and failed are updated in place.

    x, g, m, v: [N, C, H, W], float32 or float64 (v for `adam` only). failed: bool [N], set where g is not finite;
    such an image stays as it is and touches no other. t counts from 1. x0: [1, C, 1, 1], the image the penalties
    pull to. box: lowest and highest values, [1, C, 1, 1] each, or None. `sgd` is the bias-corrected moving
    average of the gradient, `adam` is Kingma and Ba 2015, algorithm 1.
    """
    failed |= ~torch.isfinite(g).all(dim=(1, 2, 3))
    keep = failed.view(-1, 1, 1, 1)
    g = normalise(g.masked_fill(keep, 0), normalize)
    if optimizer == "sgd":
        m.mul_(momentum).add_(g, alpha=1 - momentum)
        direction = m / (1 - momentum**t)
    else:
        assert v is not None
        first, second = betas
        m.mul_(first).add_(g, alpha=1 - first)
        v.mul_(second).addcmul_(g, g, value=1 - second)
        direction = (m / (1 - first**t)) / ((v / (1 - second**t)).sqrt() + ADAM_EPSILON)
    if l2:
        direction = direction - 2 * l2 * (x - x0)
    if tv:
        direction = direction - tv * tv_gradient(x)
    z = x + lr * direction
    if l1:
        offset = z - x0
        shrunk = torch.sign(offset) * (offset.abs() - lr * l1).clamp_min(0)
        z = x0 + shrunk
    if box is not None:
        z = torch.clamp(z, *box)
    return torch.where(keep, x, z)
