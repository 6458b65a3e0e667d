"""The periodic regularizers of Yosinski et al. 2015: Gaussian blur, and clipping of pixels that matter little.

`gaussian_blur`, `clip_small_norm` and `clip_small_contribution` are what the loop calls: they change x in place.
`blurred` and `clipped` say what every backend must compute, in float32 or float64. The compiled filters are
csrc/filters.cpp and csrc/filters.cu.

In all of them x is float32 [N, C, H, W], contiguous or channels_last (float64 too for `torch`), and x0 [C] of x's
dtype the image that a clipped pixel falls back to. failed: bool [N]; such an image stays as it is. backend: see
`backend.choose`. Nothing is allocated and the host waits for nothing (but with `torch`), so that a CUDA graph can
replay a filter that has run once. RuntimeError where an argument has the wrong shape, dtype, device or layout.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(x: Tensor, sigma: float, *, failed: Tensor, scratch: Tensor, backend: str = "torch") -> Tensor:
    """Blur x by a Gaussian of `sigma` pixels, and return it.

    scratch: another tensor of x's shape, dtype and layout; what is in it is lost.
    """
    if backend == "torch":
        return _replace(x, blurred(x, sigma), failed)
    across, down = (_rounded_kernel(sigma, size, x.device) for size in (x.shape[3], x.shape[2]))
    torch.ops.classmodels.blur_(x, scratch, across, down, failed)
    torch.autograd.graph.increment_version([x, scratch])
    return x


def workspace(x: Tensor) -> Tensor:
    """Scratch for the clippings of x [N, C, H, W]: the pixels' worths and the threshold, float32 [N, H * W + 1]."""
    return torch.empty(len(x), x.shape[2] * x.shape[3] + 1, dtype=torch.float32, device=x.device)


def clip_small_norm(
    x: Tensor, percentile: float, *, x0: Tensor, failed: Tensor, worth: Tensor, backend: str = "torch"
) -> Tensor:
    """Set the pixels whose norm over the channels of x - x0 lies below the image's `percentile` to x0; return x.

    Section 3, "clipping pixels with small norm". worth: see `workspace`.
    """
    return _clip(x, None, percentile, x0, failed, worth, backend)


def clip_small_contribution(
    x: Tensor, g: Tensor, percentile: float, *, x0: Tensor, failed: Tensor, worth: Tensor, backend: str = "torch"
) -> Tensor:
    """Set the pixels whose |sum over channels of (x - x0) * g| lies below the image's `percentile` to x0; return x.

    g: the objective's gradient that led to x, of x's shape and layout; float32, bfloat16 or float16 (section 3,
    "clipping pixels with small contribution"). worth: see `workspace`.
    """
    return _clip(x, g, percentile, x0, failed, worth, backend)


def _clip(
    x: Tensor, g: Tensor | None, percentile: float, x0: Tensor, failed: Tensor, worth: Tensor, backend: str
) -> Tensor:
    if backend == "torch":
        return _replace(x, clipped(x, g, percentile, x0), failed)
    if rank := _rank(x, percentile):
        torch.ops.classmodels.clip_(x, g, worth, failed, x0, rank)
        torch.autograd.graph.increment_version([x, worth])
    return x


def _replace(x: Tensor, filtered: Tensor, failed: Tensor) -> Tensor:
    return x.copy_(torch.where(failed.view(-1, 1, 1, 1), x, filtered))


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x blurred by a Gaussian of `sigma` pixels, separable, cut at four sigma; the border is reflected.

    A new tensor. A reflection cannot reach further than the image is wide: there the Gaussian is cut sooner.
    """
    if x.numel() == 0:
        return x.clone()
    return _blurred_rows(_blurred_rows(x, sigma).mT, sigma).mT


def _blurred_rows(x: Tensor, sigma: float) -> Tensor:
    kernel = _kernel(sigma, x.shape[-1], x.dtype, x.device)
    radius = len(kernel) // 2
    rows = F.pad(x, (radius, radius, 0, 0), mode="reflect") if radius else x
    return rows.unfold(-1, len(kernel), 1) @ kernel


def _kernel(sigma: float, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    radius = max(min(math.ceil(4 * sigma), size - 1), 0)
    offsets = torch.arange(-radius, radius + 1, dtype=dtype, device=device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


@lru_cache(maxsize=64)
def _rounded_kernel(sigma: float, size: int, device: torch.device) -> Tensor:
    return _kernel(sigma, size, torch.float64, torch.device("cpu")).to(device, torch.float32)


def clipped(x: Tensor, g: Tensor | None, percentile: float, x0: Tensor) -> Tensor:
    """x with the pixels of least worth set to x0, a new tensor.

    A pixel is worth its norm over the channels of x - x0 or, given g, |sum over channels of (x - x0) * g|. The
    `percentile` of an image is the worth that so many per cent of its pixels, rounded down, do not exceed.
    """
    rank = _rank(x, percentile)
    if rank == 0 or x.numel() == 0:
        return x.clone()
    x0 = x0.view(1, -1, 1, 1)
    # In float64: where squares leave float32's range, or channels cancel, it would rank by what is lost.
    away = x.double() - x0
    if g is None:
        worth = torch.linalg.vector_norm(away, dim=1, keepdim=True)
    else:
        worth = (away * g).sum(dim=1, keepdim=True).abs()
    worth = worth.to(x.dtype)
    threshold = worth.flatten(1).kthvalue(rank, dim=1).values.view(-1, 1, 1, 1)
    return torch.where(worth <= threshold, x0, x)


def _rank(x: Tensor, percentile: float) -> int:
    return int(x.shape[2] * x.shape[3] * percentile / 100)
