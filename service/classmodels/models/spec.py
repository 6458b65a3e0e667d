"""What a job file may say about one model: the schema of an item of `models:` and of `input:`.

Pure pydantic: nothing here touches files or imports torch. `resolve.py` goes on from here.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from classmodels.errors import InputError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
FACTORY = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"

Name = Annotated[str, Field(pattern=NAME)]
"""A name that becomes a folder and an object key: letters, digits, `.`, `_`, `-`; at most 64."""


class Strict(BaseModel):
    """Base of everything a job file holds: no unknown fields, no NaN or infinity, nothing changes after."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FieldError(InputError):
    """A field of a model's item cannot be used. `field` is its path in the item, such as ("source", "factory")."""

    def __init__(self, message: str, *field: str | int) -> None:
        super().__init__(message)
        self.field = field


class InputSpec(Strict):
    """What the network expects: its size in pixels and the normalisation (pixel - mean) / std of pixels in 0..1.

    size: [height, width], or one number for a square. The number of channels is the length of `mean`.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return (value, value)
        if not isinstance(value, list | tuple):
            raise ValueError(f"found {value!r:.60}, expected a number of pixels or [height, width]")
        return tuple(value)

    @field_validator("size")
    @classmethod
    def _bounded(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not all(1 <= side <= 4096 for side in value):
            raise ValueError(f"found {list(value)}, expected sides from 1 to 4096 pixels")
        return value

    @field_validator("mean", "std")
    @classmethod
    def _channels(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not 1 <= len(value) <= 1024:
            raise ValueError(f"found {len(value)} numbers, expected one for each channel, 1 to 1024 of them")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "InputSpec":
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std has {len(self.std)}: expected equally many")
        if not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError(f"found std {list(self.std)}, expected every one above 0")
        return self

    @property
    def channels(self) -> int:
        return len(self.mean)


class Source(Strict):
    """Where the network's code comes from: exactly one of the five kinds."""

    torchvision: str | None = None
    timm: str | None = None
    transformers: str | None = None
    factory: str | None = Field(None, pattern=FACTORY)
    program: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_kind(self) -> "Source":
        named = [kind for kind in ("torchvision", "timm", "transformers", "factory", "program") if getattr(self, kind)]
        if len(named) != 1:
            found = " and ".join(named) or "none"
            raise ValueError(
                f"found {found}, expected exactly one of torchvision, timm, transformers, factory, program"
            )
        if self.program and (self.args or self.kwargs):
            raise ValueError("a program takes no args or kwargs: it is already built")
        return self

    @property
    def kind(self) -> str:
        """One of torchvision, timm, transformers, factory, program."""
        return next(k for k in ("torchvision", "timm", "transformers", "factory", "program") if getattr(self, k))


class ModelSpec(Strict):
    """One item of `models:`. `family` is for the page only: models of one family are not independent judges."""

    name: Name
    source: Source
    checkpoint: Annotated[str, Field(min_length=1)] | None = None
    select: Annotated[str, Field(min_length=1)] | None = None
    input: InputSpec | None = None
    output: str | int = "auto"
    head: Literal["softmax", "sigmoid", "binary"] = "softmax"
    labels: Annotated[str, Field(min_length=1)] | None = None
    role: Literal["ascend", "judge"] = "ascend"
    family: str | None = None
    licence: str | None = None
