"""What a checkpoint's name and its sidecar tell of it: which network it is of, its training step, epoch and time.

Both are data from anywhere: a sidecar chooses among the template's models by name, and can do nothing else.
"""

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from pydantic import ConfigDict, ValidationError

from classmodels.errors import InputError
from classmodels.models.labels import did_you_mean
from classmodels.models.spec import Name
from classmodels.store.nights import Count, Tag, Time
from classmodels.store.records import Stored

SIDECAR_BYTES = 1 << 16
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".safetensors.index.json")
GROUPS = ("model", "step", "epoch", "time")

_BESIDE = re.compile(r"(optimizer|scheduler|scaler|rng_state|random_states|training_args|trainer_state)[\w.-]*")
"""Files that training tools put beside a checkpoint, with a checkpoint's suffix."""
_SHARD = re.compile(r"(.*)-\d{5}-of-\d{5}\.(safetensors|bin)")
_STEP = re.compile(
    r"(?:^|[^a-z])(?:global_?step|steps?|iter(?:ation)?s?|checkpoint|ckpt)[-_=/]?(\d{1,18})", re.IGNORECASE
)
_EPOCH = re.compile(r"(?:^|[^a-z])(?:epochs?|ep)[-_=/]?(\d{1,18})", re.IGNORECASE)
_TIME = re.compile(r"(?<!\d)(20\d\d-?\d\d-?\d\d[T_-]?(?:\d\d[-:]?\d\d(?:[-:]?\d\d)?)?Z?)(?!\d)")


class Sidecar(Stored):
    """`<checkpoint>.json`: what whoever saved the checkpoint says of it. Further fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    model: Name | None = None
    step: Count | None = None
    epoch: Count | None = None
    time: Time | None = None
    tags: tuple[Tag, ...] = ()


@dataclass(frozen=True)
class Told:
    """What is told of a checkpoint: `model` as it is named there, which need not be one of the template's."""

    model: str | None = None
    step: int | None = None
    epoch: int | None = None
    time: datetime | None = None
    tags: tuple[str, ...] = ()


class Names:
    """How names of checkpoints are read: by `pattern`, or as training tools usually write them."""

    def __init__(self, pattern: str | None, sources: list[str]) -> None:
        """sources: the names of the template's models. Raises InputError where `pattern` is none."""
        self.sources = sources
        self._pattern = None
        if pattern is not None:
            try:
                self._pattern = re.compile(pattern)
            except re.error as error:
                raise InputError(f"--pattern {pattern!r}: it is no regular expression: {error}") from error
            if unknown := sorted(set(self._pattern.groupindex) - set(GROUPS)):
                raise InputError(
                    f"--pattern {pattern!r}: found the group {unknown[0]!r}, expected {', '.join(GROUPS)}"
                    f"{did_you_mean(unknown[0], GROUPS)}"
                )

    def read(self, path: str) -> Told | None:
        """What `path`, relative to where checkpoints are looked for, tells; None where it is no checkpoint's.

        Raises InputError where the pattern's groups hold something else than they should.
        """
        if self._pattern is None:
            return self._usual(path)
        match = self._pattern.fullmatch(path)
        if match is None:
            return None
        groups = {name: text for name, text in match.groupdict().items() if text}
        return Told(
            model=groups.get("model"),
            step=_number("step", groups.get("step")),
            epoch=_number("epoch", groups.get("epoch")),
            time=None if "time" not in groups else _moment(groups["time"]),
        )

    def _usual(self, path: str) -> Told | None:
        parts = PurePosixPath(path).parts
        name = parts[-1]
        if not name.endswith(SUFFIXES) or _BESIDE.fullmatch(name) or shard_of(path):
            return None
        # The last one counts: in runs/step-3-sweep/step_000100.pt the file's own.
        step, epoch, time = (_last(one, path) for one in (_STEP, _EPOCH, _TIME))
        try:
            moment = None if time is None else _moment(time)
        except InputError:
            moment = None  # digits that are no date
        model = next((part for part in (*parts[:-1], name.split(".")[0]) if part in self.sources), None)
        return Told(model, None if step is None else int(step), None if epoch is None else int(epoch), moment)


def shard_of(path: str) -> str | None:
    """The stem that the shards of one checkpoint have in common; None where `path` is no shard."""
    match = _SHARD.fullmatch(path)
    return match[1] if match else None


def check_sidecar(size: int) -> None:
    """Raises InputError where `size` bytes are more than a sidecar has."""
    if size > SIDECAR_BYTES:
        raise InputError(f"its sidecar has {size} bytes, expected at most {SIDECAR_BYTES}")


def with_sidecar(told: Told, data: bytes) -> Told:
    """`told` with all that the sidecar `data` says over it. Raises InputError where it is none."""
    check_sidecar(len(data))
    try:
        said = Sidecar.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"its sidecar cannot be used: {f'{where}: ' if where else ''}{first['msg'].lower()}; expected JSON such as"
            ' {"model": "mine", "step": 500, "epoch": 3, "time": "2026-01-31T02:00:00Z", "tags": ["best"]}'
        ) from None
    return Told(
        model=said.model or told.model,
        step=told.step if said.step is None else said.step,
        epoch=told.epoch if said.epoch is None else said.epoch,
        time=said.time or told.time,
        tags=said.tags,
    )


def choose_source(told: Told, sources: list[str]) -> str:
    """The template's model that a checkpoint is of. Raises InputError where that cannot be told."""
    if told.model in sources:
        return told.model
    choices = ", ".join(sources)
    if told.model is not None:
        raise InputError(
            f"it names the model {told.model!r:.80}, expected one of {choices}{did_you_mean(told.model, sources)}"
        )
    if len(sources) == 1:
        return sources[0]
    raise InputError(
        f"nothing tells which of {choices} it is of: put it into a folder of that name, have --pattern find a group"
        ' (?P<model>...), or write {"model": "..."} into a sidecar'
    )


def _number(group: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InputError(f"--pattern: the group {group} found {text!r:.40}, expected digits")
    return int(text)


def _moment(text: str) -> datetime:
    """`text` as a moment, however its parts are set apart; in UTC unless it says otherwise."""
    digits = re.sub(r"\D", "", text)
    time = None
    with contextlib.suppress(ValueError):
        time = datetime.fromisoformat(text)
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(digits))
    if time is None and form:
        with contextlib.suppress(ValueError):
            time = datetime.strptime(digits, form)
    if time is None:
        raise InputError(f"the time {text!r:.40} is none, expected such as 2026-01-31T02:03:04Z")
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _last(pattern: re.Pattern[str], path: str) -> str | None:
    found = pattern.findall(path)
    return found[-1] if found else None
