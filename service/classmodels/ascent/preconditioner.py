"""P: the symmetric operator that makes low frequencies and natural colours cheap, while the variable stays the image.

Ascending with P g is ascending in a Sobolev-like metric, the counterpart of optimising Fourier coefficients with
decorrelated colours (Olah, Mordvintsev, Schubert 2017, appendix).
"""

import torch
from torch import Tensor

from classmodels.ascent.recipe import Preconditioner

# Square root of the covariance of RGB values over natural images, as published with lucid; only its shape matters here.
_COLOR_ROOT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


def color_covariance() -> Tensor:
    """The 3x3 covariance of RGB in natural images, scaled to a mean eigenvalue of 1; float64."""
    root = torch.tensor(_COLOR_ROOT, dtype=torch.float64)
    covariance = root @ root.T
    return covariance * 3 / covariance.trace()


def spectral_gain(size: tuple[int, int], exponent: float, floor: float) -> Tensor:
    """Gain over the half spectrum of `rfft2`, float64 [H, W // 2 + 1]: max(|f|, floor)^(-2 exponent).

    Its mean over the full spectrum is 1.

    |f| in cycles per image, for which a rectangle counts as the square of its area.
    """
    return _gain(_log_frequencies(size, floor), exponent)


def _log_frequencies(size: tuple[int, int], floor: float) -> Tensor:
    height, width = size
    side = (height * width) ** 0.5
    rows = torch.fft.fftfreq(height, dtype=torch.float64).view(-1, 1) * side
    columns = torch.fft.fftfreq(width, dtype=torch.float64) * side
    return torch.hypot(rows, columns).clamp_min(floor).log()


def _gain(log_frequencies: Tensor, exponent: float) -> Tensor:
    full = torch.exp(-2 * exponent * log_frequencies)
    return (full / full.mean())[:, : full.shape[1] // 2 + 1]


def focus_window(size: tuple[int, int], width: float) -> Tensor:
    """Gaussian window, float64 [H, W], 1 at the centre, of standard deviation `width` in half sides."""

    def axis(count: int) -> Tensor:
        place = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) / (count / 2)
        return torch.exp(-0.5 * (place / width) ** 2)

    return axis(size[0]).view(-1, 1) * axis(size[1])


class Precondition:
    """P for images of one size. Calling it with g [N, C, H, W] and the progress 0..1 returns P g."""

    def __init__(self, settings: Preconditioner, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype):
        channels, *size = shape
        self.settings = settings
        self.size = (size[0], size[1])
        self.device, self.dtype = device, dtype
        self.color = color_covariance().tolist() if settings.color and channels == 3 else None
        window = focus_window(self.size, settings.focus) if settings.focus is not None else None
        self.window = None if window is None else window.to(device, dtype)
        moving = any(settings.spectral)
        self.frequencies = _log_frequencies(self.size, settings.floor).to(device) if moving else None
        self._known: tuple[float, Tensor] | None = None

    def __call__(self, g: Tensor, progress: float) -> Tensor:
        if self.window is not None:
            g = g * self.window
        first, last = self.settings.spectral
        exponent = first + (last - first) * progress
        if exponent:
            waves = torch.fft.rfft2(g)
            waves *= self.gain(exponent)
            # In two, which is irfft2: MKL takes half as long.
            g = torch.fft.irfft(torch.fft.ifft(waves, dim=-2), n=self.size[1])
        if self.color is not None:
            # Elementwise, so that an image's result does not depend on its place in the batch.
            mixed = torch.empty_like(g)
            for (red, green, blue), to in zip(self.color, mixed.unbind(1), strict=True):
                torch.mul(g[:, 0], red, out=to)
                to.add_(g[:, 1], alpha=green).add_(g[:, 2], alpha=blue)
            g = mixed
        if self.window is not None:
            g *= self.window  # by now a tensor of our own
        return g

    def gain(self, exponent: float) -> Tensor:
        """`spectral_gain`, as complex numbers: what multiplies complex numbers would be made such each time."""
        if self._known is None or self._known[0] != exponent:
            assert self.frequencies is not None
            self._known = (exponent, _gain(self.frequencies, exponent).to(self.dtype.to_complex()))
        return self._known[1]
