"""The space the image lives in: normalised pixels, where 0 is the mean image and a box holds what a screen can show."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Space:
    """mean, std: [1, C, 1, 1] float32, of pixels in 0..1; pixel = mean + std * x. size: (height, width)."""

    mean: Tensor
    std: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, mean: tuple[float, ...], std: tuple[float, ...], size: tuple[int, int]) -> "Space":
        def channels(values: tuple[float, ...]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)

        return cls(channels(mean), channels(std), size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.mean.numel(), *self.size)

    @property
    def box(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest displayable values, [1, C, 1, 1] each: pixel 0 and pixel 1."""
        return -self.mean / self.std, (1 - self.mean) / self.std

    def towards(self, name: str) -> Tensor:
        """x0 [1, C, 1, 1]: `mean` is 0, `black` is pixel 0."""
        return torch.zeros_like(self.mean) if name == "mean" else self.box[0]

    def to(self, device: torch.device) -> "Space":
        return Space(self.mean.to(device), self.std.to(device), self.size)
