"""Images to filter, and what every backend's filters are held to."""

import math

import torch
from tests.ops.agreement import LAYOUTS, assert_agrees
from torch import Tensor

from classmodels.ops.filters import blurred


class Case:
    """Images, a gradient and an x0 of random normal numbers; `failed` is set for no image."""

    def __init__(self, shape, layout="contiguous", gradient=torch.float32, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.x, self.g = (
            torch.randn(shape, generator=generator).contiguous(memory_format=LAYOUTS[layout]) for _ in range(2)
        )
        self.g = self.g.to(gradient)
        self.x0 = 0.3 * torch.randn(shape[1], generator=generator)
        self.failed = torch.zeros(shape[0], dtype=torch.bool)


def assert_blurred(case: Case, sigma: float, found: Tensor) -> None:
    """`found` is the case's x, blurred: but for the images that failed."""
    going = ~case.failed
    assert torch.equal(found[case.failed], case.x[case.failed])
    if found[going].numel():
        x = case.x[going]
        assert_agrees(found[going], blurred(x, sigma), blurred(x.double(), sigma))


def assert_clipped(case: Case, percentile: float, by_contribution: bool, found: Tensor) -> None:
    """`found` is the case's x, clipped: but for the images that failed.

    Pixels that are worth within 1e-5 of the threshold in float64 may go either way; the others are x0 or x exactly.
    """
    x, x0 = case.x.double(), case.x0.double().view(1, -1, 1, 1)
    rank = int(x.shape[2] * x.shape[3] * percentile / 100)
    if x.numel() == 0 or rank == 0:
        assert torch.equal(found, case.x)
        return
    away = x - x0
    worth = (away * case.g.double()).sum(1).abs() if by_contribution else away.square().sum(1).sqrt()
    # NaN ranks last, and is below nothing.
    threshold = worth.flatten(1).nan_to_num(math.inf, posinf=math.inf).sort(dim=1).values[:, rank - 1].view(-1, 1, 1)
    gone = (worth <= threshold) & ~case.failed.view(-1, 1, 1)
    unsure = (worth - threshold).abs() <= 1e-5 * threshold
    either = (found == case.x) | (found.isnan() & case.x.isnan()), found == case.x0.view(1, -1, 1, 1)
    kept, fallen = (each.all(dim=1) for each in either)
    assert torch.where(gone, fallen, kept)[~unsure].all()
    assert (kept | fallen).all()
    assert (fallen.sum(dim=(1, 2)) >= rank)[~case.failed].all()
