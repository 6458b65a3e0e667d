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
    height, width = size
    side = (height * width) ** 0.5
    rows = torch.fft.fftfreq(height, dtype=torch.float64).view(-1, 1) * side
    columns = torch.fft.fftfreq(width, dtype=torch.float64) * side
    full = torch.hypot(rows, columns).clamp_min(floor) ** (-2 * exponent)
    return (full / full.mean())[:, : width // 2 + 1]


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
        self.color = color_covariance().to(device, dtype) if settings.color and channels == 3 else None
        window = focus_window(self.size, settings.focus) if settings.focus is not None else None
        self.window = None if window is None else window.to(device, dtype)
        self._gain: tuple[float, Tensor] | None = None

    def __call__(self, g: Tensor, progress: float) -> Tensor:
        if self.window is not None:
            g = g * self.window
        first, last = self.settings.spectral
        exponent = first + (last - first) * progress
        if exponent:
            g = torch.fft.irfft2(torch.fft.rfft2(g) * self.gain(exponent), s=self.size)
        if self.color is not None:
            red, green, blue = g.unbind(1)
            # Elementwise, so that an image's result does not depend on its place in the batch.
            g = torch.stack([row[0] * red + row[1] * green + row[2] * blue for row in self.color], dim=1)
        if self.window is not None:
            g = g * self.window
        return g

    def gain(self, exponent: float) -> Tensor:
        if self._gain is None or self._gain[0] != exponent:
            gain = spectral_gain(self.size, exponent, self.settings.floor)
            self._gain = (exponent, gain.to(self.device, self.dtype))
        return self._gain[1]
