"""Yosinski's periodic regularizers against NumPy and against what the paper says of them."""

import numpy as np
import pytest
import torch

from classmodels.ops.filters import clip_small_contribution, clip_small_norm, gaussian_blur

ZERO = torch.zeros(1, 3, 1, 1, dtype=torch.float64)


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
    np.testing.assert_allclose(gaussian_blur(x, sigma).numpy(), expected, rtol=1e-10, atol=1e-12)


def test_blur_keeps_a_constant_and_a_single_pixel_wide_image():
    flat = torch.full((1, 1, 1, 8), 0.7, dtype=torch.float64)
    torch.testing.assert_close(gaussian_blur(flat, 2.0), flat)


def test_small_norm_clips_the_pixels_below_the_percentile():
    x = images()
    clipped = clip_small_norm(x, 30, ZERO)
    norms = np.linalg.norm(x.numpy(), axis=1)
    for image, before, norm in zip(clipped.numpy(), x.numpy(), norms, strict=True):
        gone = (image == 0).all(axis=0)
        assert gone.sum() == int(99 * 0.3)
        assert norm[gone].max() < norm[~gone].min()
        assert (image[:, ~gone] == before[:, ~gone]).all()


def test_small_contribution_clips_by_the_linearised_effect_of_setting_a_pixel_to_x0():
    x, g = images(), images(1)
    x0 = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).view(1, 3, 1, 1)
    clipped = clip_small_contribution(x, g, 50, x0)
    effect = np.abs(((x - x0) * g).sum(dim=1).numpy())
    for image, before, size in zip(clipped, x, effect, strict=True):
        gone = (image == x0[0]).all(dim=0).numpy()
        assert gone.sum() == 49
        assert size[gone].max() < size[~gone].min()
        assert (image[:, ~gone] == before[:, ~gone]).all()


def test_a_percentile_under_one_pixel_changes_nothing():
    x = images()
    assert clip_small_norm(x, 0.5, ZERO) is x
