"""The random transform: every image sampled through its own affine map, bilinear, reflected at the border.

The reference is PyTorch's grid sampler, whose derivative is the exact adjoint (linear in x), so that the gradient
comes back to the image's own pixels and nothing accumulates.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def affine(x: Tensor, maps: Tensor) -> Tensor:
    """x [N, C, H, W] seen through maps [N, 2, 3]; the same shape and dtype; differentiable in x.

    A map takes an output pixel (column, row, 1), counted from the image's centre in pixels, to the place of the
    input that it shows. Outside the image the picture is reflected at its edge.
    """
    height, width = x.shape[-2:]
    columns = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    rows = (torch.arange(height, dtype=x.dtype, device=x.device) - (height - 1) / 2).view(-1, 1)
    # Elementwise, not a matrix product: so an image's grid does not depend on its neighbours in the batch.
    a = maps.to(x.dtype).view(-1, 2, 3, 1, 1)
    place = a[:, :, 0] * columns + a[:, :, 1] * rows + a[:, :, 2]
    grid = torch.stack((place[:, 0] * (2 / width), place[:, 1] * (2 / height)), dim=-1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
