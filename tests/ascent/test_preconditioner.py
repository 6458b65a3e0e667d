"""P is symmetric, has unit mean gain, and favours what it says it favours."""

import pytest
import torch

from classmodels.ascent.preconditioner import Precondition, color_covariance, focus_window, spectral_gain
from classmodels.ascent.recipe import Preconditioner

SETTINGS = {
    "spectral": Preconditioner(spectral=(0.75, 0.75)),
    "floored": Preconditioner(spectral=(1.0, 0.5), floor=4),
    "color": Preconditioner(color=True),
    "focus": Preconditioner(focus=0.8),
    "all": Preconditioner(spectral=(1.0, 0.6), floor=2, color=True, focus=0.7),
}


def operator(settings, shape=(3, 6, 5), progress=0.3):
    """P as a matrix, column by column."""
    size = shape[0] * shape[1] * shape[2]
    basis = torch.eye(size, dtype=torch.float64).view(size, *shape)
    apply = Precondition(settings, shape, torch.device("cpu"), torch.float64)
    return apply(basis, progress).reshape(size, size)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("shape", [(3, 6, 5), (3, 5, 6), (3, 4, 4)])
def test_p_is_symmetric_and_positive(name, shape):
    p = operator(SETTINGS[name], shape)
    torch.testing.assert_close(p, p.T, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(p).min() > 0


@pytest.mark.parametrize("name", ["spectral", "floored", "color"])
def test_p_has_unit_mean_gain(name):
    assert torch.linalg.eigvalsh(operator(SETTINGS[name])).mean().item() == pytest.approx(1, rel=1e-9)


def test_a_window_only_takes_away():
    assert torch.linalg.eigvalsh(operator(SETTINGS["focus"])).max() <= 1


@pytest.mark.parametrize("floor", [1.0, 4.0])
def test_the_gain_of_a_wave_falls_with_its_frequency_above_the_floor(floor):
    size, exponent = 32, 0.75
    apply = Precondition(
        Preconditioner(spectral=(exponent, exponent), floor=floor), (1, size, size), torch.device("cpu"), torch.float64
    )
    place = torch.arange(size, dtype=torch.float64)
    gains = []
    for cycles in range(1, 16):
        wave = torch.cos(2 * torch.pi * cycles * place / size).expand(1, 1, size, size)
        seen = apply(wave, 0.0)
        gain = (seen * wave).sum() / (wave * wave).sum()
        torch.testing.assert_close(seen, gain * wave, rtol=1e-9, atol=1e-9)
        gains.append(gain.item())
    expected = [max(cycles, floor) ** (-2 * exponent) for cycles in range(1, 16)]
    assert [gain / gains[0] for gain in gains] == pytest.approx([e / expected[0] for e in expected], rel=1e-9)


def test_the_exponent_moves_linearly():
    settings = Preconditioner(spectral=(1.0, 0.5), floor=2)
    apply = Precondition(settings, (1, 8, 8), torch.device("cpu"), torch.float64)
    g = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    halfway = Precondition(
        Preconditioner(spectral=(0.75, 0.75), floor=2), (1, 8, 8), torch.device("cpu"), torch.float64
    )
    torch.testing.assert_close(apply(g, 0.5), halfway(g, 0.0))


def test_a_rectangle_has_the_same_gain_for_waves_of_the_same_length_in_pixels():
    gain = spectral_gain((16, 32), 0.5, 1.0)
    assert gain[2, 0].item() == pytest.approx(gain[0, 4].item())  # eight pixels a cycle, down and across


def test_natural_colours_are_mostly_light_and_dark():
    values, vectors = torch.linalg.eigh(color_covariance())
    assert values[-1] > 5 * values[-2]
    assert vectors[:, -1].abs().min() > 0.5


def test_colour_is_left_alone_where_there_are_not_three_channels():
    g = torch.randn(1, 4, 4, 4)
    assert torch.equal(Precondition(Preconditioner(color=True), (4, 4, 4), torch.device("cpu"), torch.float32)(g, 0), g)


def test_the_window_is_one_at_the_centre_and_gaussian():
    window = focus_window((5, 9), 0.5)
    assert window[2, 4] == 1
    assert window[2, 4 + 2].item() == pytest.approx(torch.exp(torch.tensor(-0.5 * ((2 / 4.5) / 0.5) ** 2)).item())
