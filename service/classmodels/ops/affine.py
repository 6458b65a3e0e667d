"""The random transform: every image sampled through its own affine map, bilinear, reflected at the border.

`affine` is what the loop calls; `reference` says what every backend must compute, in float32 or float64. It is
PyTorch's grid sampler, whose derivative is the exact adjoint (linear in x), so that the gradient comes back to the
image's own pixels and nothing accumulates; but on CUDA it adds floats in an order that chance decides. The compiled
transform and its adjoint are csrc/affine.cpp and csrc/affine.cu: the same bits every time.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def affine(x: Tensor, maps: Tensor, layout: torch.memory_format | None = None, backend: str = "torch") -> Tensor:
    """x [N, C, H, W] seen through maps [N, 2, 3]; the same shape and dtype; differentiable in x, once.

    A map takes an output pixel (column, row, 1), counted from the image's centre in pixels, to the place of the
    input that it shows. Outside the image the picture is reflected at its edge. x: float32, contiguous or channels_last
    (any float, anyhow, for `torch`); maps likewise. layout: of what is returned; None is x's. backend: see
    `backend.choose`. Raises RuntimeError where an argument has the wrong shape, dtype, device or layout.
    """
    if backend != "torch":
        return _Affine.apply(x, maps, layout)
    seen = reference(x, maps)
    return seen if layout is None else seen.contiguous(memory_format=layout)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, maps: Tensor, layout: torch.memory_format | None) -> Tensor:
        ctx.save_for_backward(maps)
        ctx.layout = _layout(x)
        seen = torch.empty_like(x, memory_format=layout or ctx.layout)
        torch.ops.classmodels.affine_(seen, x, maps)
        return seen

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (maps,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=_layout(gradient))
        back = torch.empty_like(gradient, memory_format=ctx.layout)
        torch.ops.classmodels.affine_adjoint_(back, gradient, maps)
        return back, None, None


def _layout(x: Tensor) -> torch.memory_format:
    """Of the two layouts that there are, the one that x is in; contiguous where it is in neither."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def reference(x: Tensor, maps: Tensor) -> Tensor:
    """x seen through maps, a new tensor. Arguments as for `affine`."""
    height, width = x.shape[-2:]
    columns = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    rows = (torch.arange(height, dtype=x.dtype, device=x.device) - (height - 1) / 2).view(-1, 1)
    # Elementwise, not a matrix product: so an image's grid does not depend on its neighbours in the batch.
    a = maps.to(x.dtype).view(-1, 2, 3, 1, 1)
    place = a[:, :, 0] * columns + a[:, :, 1] * rows + a[:, :, 2]
    grid = torch.stack((place[:, 0] * (2 / width), place[:, 1] * (2 / height)), dim=-1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
