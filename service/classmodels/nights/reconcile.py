"""What a night has to do: what is found, against what the store holds. Never "what came since the last night": nights
may be missed, start twice, overlap or be killed, and the next one sees what is there.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from classmodels.errors import InputError
from classmodels.nights.discover import Candidate, Found
from classmodels.store.nights import Listing, in_order

Why = Literal["new", "bridge", "again"]

_AGE = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Bounds:
    """Which checkpoints a night looks at. since: none older; keep_last: so many of each model; max_new: with so many a
    night begins; refresh: also those that are done already, and those that are broken."""

    since: datetime | None = None
    keep_last: int | None = None
    max_new: int | None = None
    refresh: bool = False


@dataclass(frozen=True)
class Work:
    """A checkpoint to be done. why: it is new; it bridges two versions of the algorithm; it is looked at again.

    begun: an earlier night has begun with it, or given it to a cluster.
    """

    found: Found
    why: Why
    begun: bool = False


@dataclass
class Budget:
    """How many checkpoints a night may still begin with; None for all. What is begun already is only carried on."""

    left: int | None

    def allows(self, work: Work) -> bool:
        return work.begun or self.left is None or self.left > 0

    def spend(self, work: Work) -> None:
        if self.left is not None and not work.begun:
            self.left -= 1


def is_open(candidate: Candidate, listing: Listing, wanted12: Iterable[str]) -> bool:
    """Whether something under one of the recipes may be left to do, under whatever version of the algorithm."""
    if candidate.checkpoint12 in listing.broken:
        return False
    done = {wanted for wanted, _ in listing.done.get(candidate.checkpoint12, ())}
    return not done.issuperset(wanted12)


def misses_bridge(candidates: Sequence[Candidate], listing: Listing, wanted12: Sequence[str], algorithm: int) -> bool:
    """Whether some checkpoint was done under another version of the algorithm, and under this one not."""
    return any(
        _versions(candidate.checkpoint12, listing, wanted12) - {algorithm}
        and not _is_current(candidate, listing, wanted12, algorithm)
        for candidate in candidates
    )


def reconcile(
    found: Iterable[Found],
    listing: Listing,
    wanted12: Sequence[str],
    algorithm: int,
    bounds: Bounds,
    is_deleted: Callable[[Found], bool] = lambda one: False,
) -> list[Work]:
    """What is to be done, the newest of each model first; all of it, as `Budget` counts what comes of each.

    A new version of the algorithm is for new checkpoints, and for one old one of each model, so that the two can be
    compared; for the others only where `bounds` say refresh. is_deleted: whether a checkpoint that was done under
    another version was deleted on purpose.
    """
    by_source: dict[str, list[Found]] = {}
    for one in found:
        by_source.setdefault(one.source, []).append(one)
    ranked: list[tuple[int, str, Work]] = []
    for source, mine in by_source.items():
        newest = [one for one in reversed(in_order(mine)) if _since(one, bounds)][: bounds.keep_last]
        newest = [one for one in newest if bounds.refresh or one.checkpoint12 not in listing.broken]
        fit = [one for one in newest if not is_open(one.candidate, listing, wanted12)]
        bridged = any(
            _is_current(one.candidate, listing, wanted12, algorithm)
            and len(_versions(one.checkpoint12, listing, wanted12)) > 1
            for one in mine
        )
        old = [
            one for one in fit if not _is_current(one.candidate, listing, wanted12, algorithm) and not is_deleted(one)
        ]
        bridge = old[0] if old and not bridged else None
        for rank, one in enumerate(newest):
            why: Why | None = None
            begun = one.checkpoint12 in listing.sources
            if one not in fit:
                why = "again" if bounds.refresh and begun else "new"
            elif bounds.refresh and not is_deleted(one):
                why = "again"
            elif one is bridge:
                why = "bridge"
            if why is not None:
                ranked.append((rank, source, Work(one, why, begun)))
    return [work for _, _, work in sorted(ranked, key=lambda entry: entry[:2])]


def age(option: str, text: str) -> timedelta:
    """`10m`, `36h`, `30d` as a span of time. Raises InputError."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise InputError(f"{option} {text!r}: expected a number of seconds, minutes, hours, days or weeks, such as 10m")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def moment(option: str, text: str, now: datetime) -> datetime:
    """A date, or a span of time ago. Raises InputError."""
    if _AGE.fullmatch(text):
        return now - age(option, text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} {text!r}: expected a date such as 2026-01-31, or an age such as 30d") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _since(one: Found, bounds: Bounds) -> bool:
    return bounds.since is None or (one.time or one.modified) >= bounds.since


def _versions(checkpoint12: str, listing: Listing, wanted12: Sequence[str]) -> set[int]:
    """Versions of the algorithm under which one of the recipes is done."""
    return {version for wanted, version in listing.done.get(checkpoint12, ()) if wanted in wanted12}


def _is_current(one: Candidate, listing: Listing, wanted12: Sequence[str], algorithm: int) -> bool:
    return listing.done.get(one.checkpoint12, set()).issuperset({(wanted, algorithm) for wanted in wanted12})
