"""Images, maps and gradients for the tests of the transform, and the rule they are held to."""

import torch
from tests.ops.agreement import LAYOUTS

from classmodels.ascent.draws import transform_maps
from classmodels.ascent.recipe import Transforms
from classmodels.ops.affine import reference

EPSILON = torch.finfo(torch.float32).eps
KINDS = (
    Transforms(jitter=3),
    Transforms(rotate=180),
    Transforms(scale=(0.1, 0.3)),
    Transforms(scale=(3, 10), shift=1.0),
    Transforms(jitter=2, rotate=15, scale=(0.6, 1.2), shift=0.15, flip=True),
)


class Case:
    """x, g: float32 [N, C, H, W], of which x lies as `layout` says; maps: [N, 2, 3], of all kinds by turns."""

    def __init__(self, shape, layout="contiguous", seed=0):
        generator = torch.Generator().manual_seed(seed)
        x, self.g = (torch.randn(shape, generator=generator) for _ in range(2))
        self.x = x.contiguous(memory_format=LAYOUTS[layout])
        kinds = [KINDS[(seed + index) % len(KINDS)] for index in range(shape[0])]
        drawn = [transform_maps(f"{seed}/{i}", kind, 1, tuple(shape[2:])) for i, kind in enumerate(kinds)]
        self.maps = torch.cat([torch.from_numpy(each) for each in drawn])

    def chosen(self, order):
        case = object.__new__(Case)
        case.x, case.g, case.maps = self.x[order], self.g[order], self.maps[order]
        return case

    def assert_agrees(self, seen, back):
        """The rule of agreement.py; or what it changes that float32 rounds every place, and be it all to one side."""
        narrow, exact = self._by_pytorch(torch.float32), self._by_pytorch(torch.float64)
        nudged = [self._by_pytorch(torch.float64, nudge) for nudge in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        for index, found in enumerate((seen, back)):
            error = (found.double() - exact[index]).abs().max().item()
            allowed = 2 * (narrow[index].double() - exact[index]).abs().max().item()
            allowed += 2 * EPSILON * exact[index].abs().max().item()
            allowed += max((each[index] - exact[index]).abs().max().item() for each in nudged)
            assert error <= allowed, f"{('seen', 'brought back')[index]}: error {error:.3g}, allowed {allowed:.3g}"

    def _by_pytorch(self, dtype, nudge=(0, 0)):
        height, width = self.x.shape[2:]
        maps = self.maps.double()
        corner = torch.tensor([width / 2, height / 2, 1], dtype=torch.float64)
        farthest = (maps.abs() * corner).sum(dim=2) + corner[:2]
        maps[..., 2] += 2 * EPSILON * farthest * torch.tensor(nudge)
        x = self.x.to(dtype).requires_grad_(True)
        seen = reference(x, maps)
        return seen.detach(), torch.autograd.grad(seen, x, self.g.to(dtype))[0]
