"""Yosinski's periodic regularizers, in PyTorch, against NumPy and against what the paper says of them."""

import numpy as np
import pytest
import torch

from classmodels.ops.filters import blurred, clip_small_contribution, clip_small_norm, clipped, gaussian_blur, workspace

ZERO = torch.zeros(3, dtype=torch.float64)


def images(seed=0, height=9, width=11):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5, 30.0])
def test_blur_is_a_convolution_with_a_gaussian(sigma):
    x = images()
    radius_y, radius_x = (min(int(np.ceil(4 * sigma)), side - 1) for side in (9, 11))

    def kernel(radius):
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        return weights / weights.sum()

    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (radius_y, radius_y), (radius_x, radius_x)), mode="reflect")
    rows = np.apply_along_axis(np.convolve, 3, padded, kernel(radius_x), mode="valid")
    expected = np.apply_along_axis(np.convolve, 2, rows, kernel(radius_y), mode="valid")
    np.testing.assert_allclose(blurred(x, sigma).numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (1, 2, 8, 1), (2, 1, 1, 1)])
def test_blur_keeps_a_constant_even_a_single_pixel_wide(shape):
    flat = torch.full(shape, 0.7, dtype=torch.float64)
    torch.testing.assert_close(blurred(flat, 2.0), flat)


def test_small_norm_clips_the_pixels_below_the_percentile():
    x = images()
    found = clipped(x, None, 30, ZERO)
    norms = np.linalg.norm(x.numpy(), axis=1)
    for image, before, norm in zip(found.numpy(), x.numpy(), norms, strict=True):
        gone = (image == 0).all(axis=0)
        assert gone.sum() == int(99 * 0.3)
        assert norm[gone].max() < norm[~gone].min()
        assert (image[:, ~gone] == before[:, ~gone]).all()


def test_small_contribution_clips_by_the_linearised_effect_of_setting_a_pixel_to_x0():
    x, g = images(), images(1)
    x0 = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    found = clipped(x, g, 50, x0)
    effect = np.abs(((x - x0.view(1, 3, 1, 1)) * g).sum(dim=1).numpy())
    for image, before, size in zip(found, x, effect, strict=True):
        gone = (image == x0.view(3, 1, 1)).all(dim=0).numpy()
        assert gone.sum() == 49
        assert size[gone].max() < size[~gone].min()
        assert (image[:, ~gone] == before[:, ~gone]).all()


@pytest.mark.parametrize("power", [-90, 90])
def test_norms_whose_squares_are_no_float32_are_ranked(power):
    x = images().float()
    scaled = clipped(x * 2.0**power, None, 30, ZERO.float())
    assert torch.equal(scaled, clipped(x, None, 30, ZERO.float()) * 2.0**power)


def test_a_pixel_whose_channels_cancel_is_ranked_by_what_is_left():
    # In float32 a running sum loses what is left beside 1e9: most pixels would be worth nothing.
    order = torch.randperm(99, generator=torch.Generator().manual_seed(0)).view(1, 9, 11)
    large = torch.full_like(order, 10**9)
    x = torch.stack([large, order + 1, large], dim=1).float()
    g = torch.tensor([1.0, 1.0, -1.0]).view(1, 3, 1, 1).expand_as(x)
    gone = (clipped(x, g, 30, ZERO.float()) == 0).all(dim=1)
    assert torch.equal(gone, order < int(99 * 0.3))


def test_the_hundredth_percentile_clips_everything_and_one_under_a_pixel_nothing():
    x = images()
    assert torch.equal(clipped(x, None, 100, ZERO), torch.zeros_like(x))
    assert torch.equal(clipped(x, None, 0.5, ZERO), x)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0), (2, 0, 4, 4)])
def test_nothing_to_do_is_no_error(shape):
    x = torch.zeros(shape)
    assert blurred(x, 1.0).shape == x.shape
    assert clipped(x, None, 50, torch.zeros(shape[1])).shape == x.shape


def test_filters_change_the_image_in_place_but_not_one_that_failed():
    failed = torch.tensor([False, True])
    x, g = images(), images(1)
    rest = {"x0": ZERO, "failed": failed, "worth": workspace(x)}
    for run, expected in (
        (lambda y: gaussian_blur(y, 1.0, failed=failed, scratch=torch.empty_like(y)), blurred(x, 1.0)),
        (lambda y: clip_small_norm(y, 40, **rest), clipped(x, None, 40, ZERO)),
        (lambda y: clip_small_contribution(y, g, 40, **rest), clipped(x, g, 40, ZERO)),
    ):
        y = x.clone()
        assert run(y) is y
        assert torch.equal(y[0], expected[0])
        assert torch.equal(y[1], x[1])
