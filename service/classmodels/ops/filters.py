"""The periodic regularizers of Yosinski et al. 2015: Gaussian blur, and clipping of pixels that matter little.

References in PyTorch, float32 or float64. All work on x [N, C, H, W] around x0 [1, C, 1, 1], the image that a
clipped pixel falls back to.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """x blurred by a Gaussian of `sigma` pixels, separable, cut at four sigma; the border is reflected."""
    return _blur_rows(_blur_rows(x, sigma).mT, sigma).mT


def _blur_rows(x: Tensor, sigma: float) -> Tensor:
    # A reflection cannot reach further than the image is wide.
    radius = min(math.ceil(4 * sigma), x.shape[-1] - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    rows = F.pad(x, (radius, radius, 0, 0), mode="reflect") if radius else x
    return rows.unfold(-1, 2 * radius + 1, 1) @ kernel


def clip_small_norm(x: Tensor, percentile: float, x0: Tensor) -> Tensor:
    """Pixels whose norm over the channels of x - x0 lies below the image's `percentile` become x0.

    Section 3, "clipping pixels with small norm".
    """
    return _clip(x, torch.linalg.vector_norm(x - x0, dim=1, keepdim=True), percentile, x0)


def clip_small_contribution(x: Tensor, g: Tensor, percentile: float, x0: Tensor) -> Tensor:
    """Pixels whose contribution |sum over channels of (x - x0) * g| lies below the image's `percentile` become x0.

    g: the objective's gradient that led to x, of x's shape (section 3, "clipping pixels with small contribution").
    """
    return _clip(x, ((x - x0) * g).sum(dim=1, keepdim=True).abs(), percentile, x0)


def _clip(x: Tensor, worth: Tensor, percentile: float, x0: Tensor) -> Tensor:
    rank = int(worth[0].numel() * percentile / 100)
    if rank == 0:
        return x
    threshold = worth.flatten(1).kthvalue(rank, dim=1).values.view(-1, 1, 1, 1)
    return torch.where(worth <= threshold, x0.to(x.dtype), x)
