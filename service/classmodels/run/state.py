"""What is saved of a batch under way: one safetensors file with all that its ascent needs to go on, to the bit.

Its tensors are those of `Ascent.state` and the film's frames, one row for each unit; its metadata says, as JSON, whose
rows they are, and under which numerics they came about; and the sha256 of all of that. It is read from places others
may write to: as data, checked, and only ever believed to be a state of the units and numerics that its key names.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from classmodels.image import Pixels
from classmodels.job.identity import digest12
from classmodels.store.records import Stored

STATES = "state/"
"""Beginning of the keys of all saved states."""

_NAME = re.compile(
    r"(?P<first>\d{4,})-(?P<last>\d{4,})\.(?P<numerics12>[0-9a-f]{12})-(?P<units12>[0-9a-f]{12})\.safetensors"
)
_FRAME = re.compile(r"frame\.(\d{1,6})")


@dataclass(frozen=True)
class State:
    """A batch after `done` steps. units: their identities, in the order of the rows. numerics: as a record has them.

    tensors: see `Ascent.state`, with a row for each unit. film: pixels uint8 [units, H, W, C] by the step they were
    taken after. seconds: spent so far.
    """

    units: tuple[str, ...]
    numerics: dict[str, Any]
    done: int
    seconds: float
    tensors: dict[str, NDArray[Any]]
    film: dict[int, Pixels]

    def rows(self, units: Sequence[str]) -> "State":
        """The state of `units`, which are among those of this one and may repeat."""
        index = [self.units.index(unit) for unit in units]
        tensors = {name: values[index] for name, values in self.tensors.items()}
        film = {step: frames[index] for step, frames in self.film.items()}
        return State(tuple(units), self.numerics, self.done, self.seconds, tensors, film)


@dataclass(frozen=True)
class Name:
    """What the key of a state tells without reading it: the range of its units' classes, and two digests."""

    first: int
    last: int
    numerics12: str
    units12: str

    @classmethod
    def of(cls, classes: Iterable[int], units: Iterable[str], numerics: Mapping[str, Any]) -> "Name":
        found = sorted(classes)
        return cls(found[0], found[-1], digest12(dict(numerics)), digest12(sorted(units)))

    @classmethod
    def parse(cls, key: str) -> "Name | None":
        """The last part of `key` as a name; None where it is none."""
        match = _NAME.fullmatch(key.rpartition("/")[2])
        return cls(int(match["first"]), int(match["last"]), match["numerics12"], match["units12"]) if match else None

    def __str__(self) -> str:
        # Not between two full stops: that is how names look whose content never changes.
        return f"{self.first:04d}-{self.last:04d}.{self.numerics12}-{self.units12}.safetensors"


class _About(Stored):
    version: Literal[2] = 2
    units: Annotated[tuple[str, ...], Field(min_length=1)]
    numerics: dict[str, Any]
    done: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


def state_prefix(task_prefix: str) -> str:
    """Where the states of the task lie whose records lie under `task_prefix`."""
    return STATES + task_prefix.removeprefix("units/")


def encode(state: State) -> bytes:
    """`state` as a safetensors file."""
    about = _About(units=state.units, numerics=state.numerics, done=state.done, seconds=state.seconds)
    said = about.model_dump_json()
    tensors = dict(state.tensors) | {f"frame.{step}": frames for step, frames in state.film.items()}
    tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    return bytes(save(tensors, {"state": said, "sha256": _digest(said, tensors)}))


def decode(data: bytes) -> State:
    """Raises ValueError where `data` is not what `encode` makes, unaltered."""
    try:
        tensors: dict[str, NDArray[Any]] = load(data)
        # safetensors has checked the header and its length by now, but gives the metadata of files alone.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header["__metadata__"]
        said, expected = metadata["state"], metadata["sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it is truncated or no saved state ({type(error).__name__})") from error
    if _digest(said, tensors) != expected:
        raise ValueError("its bytes are not those that were written")
    try:
        about = _About.model_validate_json(said)
    except ValidationError as error:
        raise ValueError("it is of another version, or says what no state says") from error
    film = {int(match[1]): tensors.pop(name) for name in list(tensors) if (match := _FRAME.fullmatch(name))}
    if any(values.shape[:1] != (len(about.units),) for values in (*tensors.values(), *film.values())):
        raise ValueError("it has not one row for each of its units")
    return State(about.units, about.numerics, about.done, about.seconds, tensors, film)


def _digest(said: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Of the digests of all tensors, taken at once: they may be hundreds of megabytes, and seconds count."""
    names = sorted(tensors)
    digest = hashlib.sha256(said.encode())
    with ThreadPoolExecutor(thread_name_prefix="digest") as threads:
        for name, found in zip(names, threads.map(lambda name: hashlib.sha256(tensors[name].data), names), strict=True):
            digest.update(f"\n{name} {tensors[name].dtype} {tensors[name].shape} {found.hexdigest()}".encode())
    return digest.hexdigest()
