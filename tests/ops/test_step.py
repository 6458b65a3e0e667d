"""The reference step against closed forms, autograd and textbook algorithms, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmodels.ops.step import coefficients, normalise, reference, total_variation, tv_gradient

NEUTRAL = {
    "norm": "none",
    "x0": torch.zeros(3, dtype=torch.float64),
    "low": torch.full((3,), -math.inf, dtype=torch.float64),
    "high": torch.full((3,), math.inf, dtype=torch.float64),
}


def images(count=2, height=5, width=7, seed=0):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def take(x, g, t=1, m=None, v=None, failed=None, lr=0.1, momentum=0.0, beta2=0.0, l2=0.0, l1=0.0, tv=0.0, **changes):
    failed = torch.zeros(len(x), dtype=torch.bool) if failed is None else failed
    row = torch.tensor(coefficients(t, lr=lr, momentum=momentum, beta2=beta2, l2=l2, l1=l1, tv=tv), dtype=torch.float64)
    return reference(x, g, m, v, failed, row, tv=tv > 0, **(NEUTRAL | changes))


def channels(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_plain_gradient_ascent_moves_by_lr_times_the_gradient():
    x, g = images(), images(seed=1)
    torch.testing.assert_close(take(x, g, lr=0.25), x + 0.25 * g)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (6, 1), (2, 2), (5, 7)])
def test_tv_gradient_is_the_derivative_of_tv(height, width):
    x = images(height=height, width=width).requires_grad_(True)
    (expected,) = torch.autograd.grad(total_variation(x).sum(), x)
    torch.testing.assert_close(tv_gradient(x.detach()), expected, rtol=1e-10, atol=1e-12)


def test_tv_passes_gradcheck():
    assert torch.autograd.gradcheck(total_variation, images(1, 4, 5).requires_grad_(True))


def test_tv_of_a_constant_image_is_zero_and_of_an_edge_its_length():
    flat = torch.full((1, 1, 6, 8), 0.3, dtype=torch.float64)
    assert total_variation(flat).item() == 0
    edge = torch.zeros(1, 1, 6, 8, dtype=torch.float64)
    edge[..., 4:] = 1
    # Six rows, each with one unit step; the smoothing takes about e from each.
    assert total_variation(edge).item() == pytest.approx(6 * (math.sqrt(1 + 1e-6) - 1e-3), rel=1e-12)


def test_l2_and_tv_enter_through_the_gradient_of_the_penalty():
    x = images().requires_grad_(True)
    x0 = channels(0.1, -0.2, 0.3)
    g = images(seed=1)
    penalty = (0.7 * ((x - x0.view(1, 3, 1, 1)) ** 2).sum(dim=(1, 2, 3)) + 0.3 * total_variation(x)).sum()
    (down,) = torch.autograd.grad(penalty, x)
    moved = take(x.detach(), g, lr=0.1, l2=0.7, tv=0.3, x0=x0)
    torch.testing.assert_close(moved, (x + 0.1 * (g - down)).detach())


@given(st.floats(0, 2), st.floats(0.01, 1), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_l1_is_the_proximal_map(l1, lr, seed):
    # prox(z) minimises 0.5 (y - z)^2 + lr l1 |y - x0|: no nearby y may be better.
    x, g = images(1, 3, 3, seed), images(1, 3, 3, seed + 1)
    x0 = channels(0.2, 0.2, 0.2)
    z = x + lr * g
    y = take(x, g, lr=lr, l1=l1, x0=x0)

    def cost(value):
        return 0.5 * (value - z) ** 2 + lr * l1 * (value - 0.2).abs()

    for nudge in (-1e-3, 1e-3):
        assert (cost(y) <= cost(y + nudge) + 1e-12).all()


def test_l1_leaves_exact_zeros():
    x = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    g = torch.linspace(-1, 1, 48, dtype=torch.float64).view(1, 3, 4, 4)
    moved = take(x, g, lr=0.5, l1=0.6)
    assert ((moved == 0) == (g.abs() <= 0.6)).all()


def test_the_box_comes_last():
    x, g = torch.zeros(1, 3, 2, 2, dtype=torch.float64), torch.full((1, 3, 2, 2), 10.0, dtype=torch.float64)
    high = channels(0.5, 1.0, 1.5)
    assert (take(x, g, lr=1.0, low=channels(-1, -1, -1), high=high) == high.view(1, 3, 1, 1)).all()


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_momentum_is_a_bias_corrected_moving_average(mu):
    x, m = torch.zeros(1, 3, 2, 2, dtype=torch.float64), torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    gradients = [images(1, 2, 2, seed) for seed in range(5)]
    for t, g in enumerate(gradients, 1):
        before = x
        x = take(x, g, t=t, lr=1.0, m=m, momentum=mu)
        weights = [mu ** (t - s) for s in range(1, t + 1)]
        average = sum(w * h for w, h in zip(weights, gradients, strict=False)) / sum(weights)
        torch.testing.assert_close(x - before, average)


def test_adam_is_torchs_adam():
    start = images(1, 3, 3)
    parameter = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([parameter], lr=0.05, betas=(0.8, 0.95), eps=1e-8, maximize=True)
    x, m, v = start, torch.zeros_like(start), torch.zeros_like(start)
    for t in range(1, 8):
        g = images(1, 3, 3, seed=t)
        parameter.grad = g.clone()
        optimizer.step()
        x = take(x, g, t=t, lr=0.05, m=m, v=v, momentum=0.8, beta2=0.95)
    torch.testing.assert_close(x, parameter.detach(), rtol=1e-10, atol=1e-12)


def test_norms_are_per_image():
    g = images() * channels(1.0, 1000.0).view(2, 1, 1, 1)
    assert normalise(g, "none") is g
    torch.testing.assert_close(normalise(g, "rms").pow(2).mean(dim=(1, 2, 3)), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(normalise(g, "l2").pow(2).sum(dim=(1, 2, 3)), torch.ones(2, dtype=torch.float64))
    assert (normalise(torch.zeros_like(g), "rms") == 0).all()


@pytest.mark.parametrize("norm", ["rms", "l2"])
@pytest.mark.parametrize("power", [-20, 60, 100, 122])
def test_the_size_of_a_gradient_does_not_matter_once_it_is_normalised(norm, power):
    # A power of two changes no digit. The squares of most of these, and the largest norm, are beyond float32.
    g = images(seed=1, height=30, width=40).float()
    assert torch.equal(normalise(g * 2.0**power, norm), normalise(g, norm))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_gradient_fails_its_image_and_no_other(bad):
    x, g = images(3), images(3, seed=1)
    settings = {"norm": "rms", "l2": 0.1, "tv": 0.1, "momentum": 0.5, "beta2": 0.9}
    clean = take(x, g, m=images(3), v=images(3).abs(), **settings)
    g[1, 2, 3, 4] = bad
    failed, m, v = torch.zeros(3, dtype=torch.bool), images(3), images(3).abs()
    moved = take(x, g, failed=failed, m=m, v=v, **settings)
    assert failed.tolist() == [False, True, False]
    assert (moved[1] == x[1]).all()
    assert (m[1] == images(3)[1]).all()
    assert (v[1] == images(3)[1].abs()).all()
    assert (moved[[0, 2]] == clean[[0, 2]]).all()


def test_images_may_have_coefficients_of_their_own():
    x, g = images(), images(seed=1)
    rows = [coefficients(1, lr=0.1, l2=0.2), coefficients(3, lr=0.4, l1=0.1)]
    failed = torch.zeros(2, dtype=torch.bool)
    both = reference(x, g, None, None, failed, torch.tensor(rows, dtype=torch.float64), tv=False, **NEUTRAL)
    torch.testing.assert_close(both[:1], take(x[:1], g[:1], lr=0.1, l2=0.2))
    torch.testing.assert_close(both[1:], take(x[1:], g[1:], lr=0.4, l1=0.1))
