"""The axis of a timeline: where each checkpoint stands by its training step, and which of many are drawn as thumbnails.

Numbers only. Positions are in units of a strip WIDTH wide. A checkpoint stands where its step is, not where its turn
is; its thumbnail stands as near to that as its neighbours leave room, and a line leads from one to the other.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from classmodels.store.nights import Dated

WIDTH = 1000
THUMB = 68
GAP = 6
MARGIN = THUMB / 2
MOST = 13
"""Thumbnails on one strip; of more checkpoints those are drawn that are spread most evenly."""
TICKS = 7

_SECONDS = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, *(days * 86400 for days in (1, 2, 7, 14, 30, 90, 365)))


class Axis(NamedTuple):
    """name: what is counted, `step`, `epoch`, `time` or `order`. at: the position of each checkpoint. ticks: labels and
    their positions."""

    name: str
    at: tuple[float, ...]
    ticks: tuple[tuple[str, float], ...]


def axis_of(checkpoints: Sequence[Dated]) -> Axis:
    """The axis of checkpoints in order: by step where all have one that grows, else epoch, else time, else in order."""
    for name in ("step", "epoch"):
        values = [getattr(one, name) for one in checkpoints]
        if all(value is not None for value in values) and values == sorted(values) and values[-1] > values[0]:
            low, high = values[0], values[-1]
            spread = [_between(value, low, high) for value in values]
            return Axis(name, tuple(spread), tuple((_short(v), _between(v, low, high)) for v in ticks(low, high)))
    times = [(one.time or one.modified).timestamp() for one in checkpoints]
    if times == sorted(times) and times[-1] - times[0] > 1:
        low, high = times[0], times[-1]
        return Axis("time", tuple(_between(t, low, high) for t in times), tuple(_dates(low, high)))
    count = len(checkpoints)
    spread = [_between(place, 0, max(count - 1, 1)) for place in range(count)]
    return Axis("order", tuple(spread), ())


def _between(value: float, low: float, high: float) -> float:
    return round(MARGIN + (value - low) / (high - low) * (WIDTH - 2 * MARGIN), 1)


def ticks(low: int, high: int) -> list[int]:
    """Round values between low and high, 1, 2 or 5 times a power of ten apart, at most TICKS + 1 of them."""
    steps = (factor * 10**power for power in range(20) for factor in (1, 2, 5))
    step = next(one for one in steps if (high - low) / one <= TICKS)
    return list(range(-(-low // step) * step, high + 1, step))


def _dates(low: float, high: float) -> list[tuple[str, float]]:
    step = next((seconds for seconds in _SECONDS if (high - low) / seconds <= TICKS), _SECONDS[-1])
    form = "%H:%M" if step < 86400 else "%d %b" if step < 365 * 86400 else "%Y"
    first = -(-int(low) // step) * step
    return [
        (datetime.fromtimestamp(at, UTC).strftime(form), _between(at, low, high))
        for at in range(first, int(high) + 1, step)
    ][: TICKS + 1]


def _short(value: int) -> str:
    """12000 as 12k."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size and value % (size // 10) == 0:
            return f"{value / size:g}{letter}"
    return str(value)


def drawn(at: Sequence[float]) -> list[int]:
    """Which checkpoints get a thumbnail: all, or MOST of them, spread evenly; the first and the last always."""
    if len(at) <= MOST:
        return list(range(len(at)))
    kept: set[int] = {0, len(at) - 1}
    for place in range(1, MOST - 1):
        wanted = at[0] + (at[-1] - at[0]) * place / (MOST - 1)
        kept.add(min((i for i in range(len(at)) if i not in kept), key=lambda i: (abs(at[i] - wanted), i)))
    return sorted(kept)


def apart(at: Sequence[float]) -> list[float]:
    """Where thumbnails stand: near their positions, in their order, and none over another. At most MOST of them."""
    placed: list[float] = []
    for position in at:
        placed.append(max(position, placed[-1] + THUMB + GAP) if placed else position)
    limit = WIDTH - MARGIN
    for place in range(len(placed) - 1, -1, -1):
        placed[place] = min(placed[place], limit)
        limit = placed[place] - THUMB - GAP
    return [round(position, 1) for position in placed]
