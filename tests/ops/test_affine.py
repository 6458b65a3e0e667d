"""The random transform: exact cases, its adjoint, and independence of the batch."""

import numpy as np
import pytest
import torch

from classmodels.ascent.draws import transform_maps
from classmodels.ascent.recipe import Transforms
from classmodels.ops.affine import affine


def images(count=1, height=6, width=8, seed=0):
    return torch.randn(count, 2, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(*rows):
    return torch.tensor([rows], dtype=torch.float64)


def test_the_identity_changes_nothing():
    x = images()
    torch.testing.assert_close(affine(x, matrix((1, 0, 0), (0, 1, 0))), x)


def test_a_whole_shift_reflects_at_the_border():
    x = images()
    moved = affine(x, matrix((1, 0, -2), (0, 1, 0)))  # shown two pixels further right
    torch.testing.assert_close(moved[..., 2:], x[..., :-2])
    torch.testing.assert_close(moved[..., :2], x[..., [1, 0]])


def test_a_mirror_and_a_quarter_turn_are_exact():
    x = images(height=6, width=6)
    torch.testing.assert_close(affine(x, matrix((-1, 0, 0), (0, 1, 0))), x.flip(-1))
    torch.testing.assert_close(affine(x, matrix((0, 1, 0), (-1, 0, 0))), x.rot90(-1, (2, 3)))


KINDS = {
    "jitter": Transforms(jitter=3),
    "rotate": Transforms(rotate=30),
    "scale": Transforms(scale=(0.6, 1.4)),
    "shift": Transforms(shift=0.3),
    "flip": Transforms(flip=True),
    "all": Transforms(jitter=2, rotate=15, scale=(0.6, 1.2), shift=0.15, flip=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_of_every_transform(kind):
    maps = torch.from_numpy(transform_maps(kind, KINDS[kind], 2, (4, 5))).double()
    x = images(2, 4, 5).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda value: affine(value, maps), x)


@pytest.mark.parametrize("kind", KINDS)
def test_the_backward_pass_is_the_exact_adjoint(kind):
    # <A x, y> = <x, A* y> for every x and y.
    maps = torch.from_numpy(transform_maps(kind, KINDS[kind], 3, (6, 8))).double()
    x, y = images(3).requires_grad_(True), images(3, seed=1)
    seen = affine(x, maps)
    (back,) = torch.autograd.grad(seen, x, y)
    assert (seen * y).sum().item() == pytest.approx((x * back).sum().item(), rel=1e-12)


def test_an_image_is_seen_the_same_whatever_its_neighbours():
    maps = torch.from_numpy(transform_maps("unit", KINDS["all"], 4, (16, 16)))
    x = images(4, 16, 16).float()
    together = affine(x, maps)
    order = [2, 0, 3, 1]
    assert torch.equal(affine(x[order], maps[order]), together[order])


def test_scale_above_one_shows_the_object_larger():
    x = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    x[..., 8:13, 8:13] = 1
    larger = affine(x, torch.from_numpy(transform_maps("u", Transforms(scale=(1.5, 1.5)), 1, (21, 21))).double())
    assert larger.sum() == pytest.approx(25 * 1.5**2, rel=0.05)


def test_the_parameters_are_uniform_and_two_sided():
    maps = transform_maps("unit", Transforms(jitter=4), 4000, (32, 32))
    assert sorted(set(np.rint(maps[:, 0, 2]))) == list(range(-4, 5))
    turned = transform_maps("unit", Transforms(rotate=10), 4000, (32, 32))
    angles = np.rad2deg(np.arctan2(turned[:, 0, 1], turned[:, 0, 0]))
    assert -10 <= angles.min() < -9.9
    assert 9.9 < angles.max() <= 10
    assert abs(angles.mean()) < 0.3
    flipped = transform_maps("unit", Transforms(flip=True), 4000, (32, 32))
    assert 0.47 < (flipped[:, 0, 0] < 0).mean() < 0.53


def test_shift_is_a_fraction_of_its_own_side():
    maps = transform_maps("unit", Transforms(shift=0.25), 4000, (40, 80))
    assert 19 < np.abs(maps[:, 0, 2]).max() <= 20
    assert 9.5 < np.abs(maps[:, 1, 2]).max() <= 10
