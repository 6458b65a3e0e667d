"""The schema of a recipe: how to ascend. Every field has a unit and a range; the defaults are the neutral values.

Pure pydantic: importing it does not import torch. The presets are recipes (`job/presets.py`).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

NonNegative = Annotated[float, Field(ge=0)]
Percentile = Annotated[float, Field(ge=0, lt=100)]
Every = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """Base of a recipe's parts: unknown fields are refused, NaN and infinity too."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Init(Part):
    """The image before the first step: normal noise of standard deviation `scale` (normalised units), or zeros."""

    kind: Literal["noise", "zeros"] = "noise"
    scale: NonNegative = 0.01


class Transforms(Part):
    """Drawn anew for each image and step. A zero, or scale [1, 1], switches one off.

    jitter: whole pixels, uniform in -jitter..jitter. rotate: degrees, uniform in -rotate..rotate. scale: factor,
    uniform in [lowest, highest]; 1.1 shows the object larger. shift: fraction of the side, uniform in
    -shift..shift. flip: left-right, every second time.
    """

    jitter: Annotated[int, Field(ge=0, le=1024)] = 0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: Annotated[float, Field(ge=0, le=1)] = 0.0
    flip: bool = False

    @field_validator("scale")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.1 <= value[0] <= value[1] <= 10:
            raise ValueError(f"found {list(value)}, expected [lowest, highest] with 0.1 <= lowest <= highest <= 10")
        return value

    @property
    def active(self) -> bool:
        return self != Transforms()


class Preconditioner(Part):
    """P, which the gradient is multiplied by: a Fourier gain |f|^(-2a), a colour covariance, a window.

    spectral: the exponent a, or [first, last] to move linearly over the steps. floor: cycles per image below
    which the gain no longer grows. color: multiply by the colour covariance of natural images (3 channels only).
    focus: width of a Gaussian window in half sides, or null.
    """

    spectral: tuple[float, float] = (0.0, 0.0)
    floor: Annotated[float, Field(gt=0)] = 1.0
    color: bool = False
    focus: Annotated[float, Field(gt=0)] | None = None

    @field_validator("spectral", mode="before")
    @classmethod
    def _constant(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return (value, value)
        if not isinstance(value, list | tuple):
            raise ValueError(f"found {value!r:.60}, expected a number or [first, last]")
        return tuple(value)

    @field_validator("spectral")
    @classmethod
    def _bounded(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(-4 <= a <= 4 for a in value):
            raise ValueError(f"found {list(value)}, expected exponents from -4 to 4")
        return value

    @property
    def active(self) -> bool:
        return any(self.spectral) or self.color or self.focus is not None


class Optimizer(Part):
    """How the gradient moves the image. lr: normalised units per step (for normalize rms: of the typical pixel)."""

    kind: Literal["sgd", "adam"] = "sgd"
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    normalize: Literal["none", "rms", "l2"] = "none"
    schedule: Literal["constant", "cosine"] = "constant"


class Blur(Part):
    """Gaussian blur of `sigma` pixels after every `every` steps; 0 switches it off."""

    sigma: Annotated[float, Field(ge=0, le=64)] = 0.0
    every: Every = 1


class Clip(Part):
    """Set the pixels below this percentile to x0 after every `every` steps; 0 switches it off."""

    percentile: Percentile = 0.0
    every: Every = 1


class Regularizers(Part):
    """R(x) = l2 * sum((x-x0)^2) + l1 * sum|x-x0| + tv * TV(x), x0 the mean image or black; and periodic filters."""

    l2: NonNegative = 0.0
    l1: NonNegative = 0.0
    tv: NonNegative = 0.0
    towards: Literal["mean", "black"] = "mean"
    blur: Blur = Blur()
    small_norm: Clip = Clip()
    small_contribution: Clip = Clip()


class Recipe(Part):
    """How to ascend, complete: a preset or a job's own recipe, fully expanded."""

    objective: Literal["logit", "log_prob"] = "logit"
    steps: Annotated[int, Field(ge=1, le=100_000)]
    init: Init = Init()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    transforms: Transforms = Transforms()
    preconditioner: Preconditioner = Preconditioner()
    optimizer: Optimizer
    regularizers: Regularizers = Regularizers()
    clamp: bool = True
