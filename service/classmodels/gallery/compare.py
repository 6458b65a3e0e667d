"""Two class models of one class: how far apart they are, and whether that is more than another seed would have done.

Pure arithmetic. A distance has five measures, each with a noise floor: what the same measure is between two images of
one checkpoint that differ in their seed alone. Changed is what is above a floor. `sides.py` reads what is compared,
`compare_view.py` says what a page shows of it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, median, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

QUANTILE = 0.999
"""Of the distances between seeds, how many a floor is to leave below it."""
CHANCE = 1 / 20
"""Few pairs tell a floor badly, and there are five measures: about so many of the classes are called changed where only
the seed differs."""
FEWEST = 4
"""Pairs of seeds that it takes to say anything about noise."""
LEAST = {"own": 0.05, "panel": 0.05, "score": 0.01, "features": 1e-3, "pixels": 1 / 255}
"""What is too small to speak of, whatever the noise: a floor is never lower. Probabilities; of a score so much of the
median logit, which has no unit; cosine distance, RMS."""


@dataclass(frozen=True)
class Seen:
    """One class model as networks see it. panel: probability of its class by judge12; features: in the older network's
    own space, float64 [F]; pixels: uint8 [H, W, C]."""

    logit: float
    probability: float | None
    panel: Mapping[str, float]
    features: NDArray[np.float64] | None = None
    pixels: NDArray[np.uint8] | None = None


class Distances(NamedTuple):
    """How far apart two class models are; None where it cannot be told.

    own: of the probabilities that each image's own network gives its class; panel: the largest difference between what
    one judge gives the two; score: of the final logits; features: 1 - cos; pixels: RMS of the difference, 0 to 1.
    Of two checkpoints the score is taken beyond what is typical of all classes, see `changes`.
    """

    own: float | None
    panel: float | None
    score: float | None
    features: float | None
    pixels: float | None


MEASURES = Distances._fields


def distances(one: Seen, other: Seen) -> Distances:
    """The distances between two class models of one class. Symmetric."""
    judges = one.panel.keys() & other.panel.keys()
    return Distances(
        own=None if None in (one.probability, other.probability) else _apart(one.probability, other.probability),
        panel=max((abs(one.panel[judge] - other.panel[judge]) for judge in judges), default=None),
        score=_apart(one.logit, other.logit),
        features=cosine_distance(one.features, other.features),
        pixels=pixel_distance(one.pixels, other.pixels),
    )


def _apart(one: float | None, other: float | None) -> float | None:
    assert one is not None
    assert other is not None
    return abs(one - other) if math.isfinite(one) and math.isfinite(other) else None


def cosine_distance(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> float | None:
    """1 - cos of the angle between two vectors: 0 where they point the same way, 1 at a right angle, at most 2."""
    if one is None or other is None or one.shape != other.shape:
        return None
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    if not 0 < lengths < math.inf:
        return None
    return min(max(1 - float(one @ other) / lengths, 0.0), 2.0)


def pixel_distance(one: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> float | None:
    """Root of the mean squared difference of two pictures, in units of the whole range of a pixel."""
    if one is None or other is None or one.shape != other.shape:
        return None
    difference = (one.astype(np.float64) - other.astype(np.float64)) / 255
    return float(np.sqrt(np.mean(difference * difference)))


@dataclass(frozen=True)
class Floor:
    """What two seeds differ by at most in QUANTILE of all cases, as `count` pairs tell."""

    value: float
    count: int


def floor_of(samples: Sequence[float], least: float = 0.0) -> Floor | None:
    """The noise floor that distances between seeds tell; None where they are too few to tell one.

    Where there are enough of them it is their quantile, counted so that another such distance exceeds it with a
    probability of at most 1 - QUANTILE. Fewer reach no such quantile: then it is the bound within which normal theory
    predicts another one, mean + t · s · √(1 + 1/n), and at least the largest that was seen.
    """
    count = len(samples)
    if count < FEWEST:
        return None
    rank = math.ceil((count + 1) * QUANTILE)
    if rank <= count:
        value = sorted(samples)[rank - 1]
    else:
        bound = mean(samples) + t_quantile(QUANTILE, count - 1) * stdev(samples) * math.sqrt(1 + 1 / count)
        value = max(bound, *samples)
    return Floor(max(value, least), count)


def t_quantile(p: float, degrees: int) -> float:
    """Quantile of Student's t for 3 degrees of freedom or more, by its expansion around the normal one (Abramowitz and
    Stegun 26.7.5): within 3 % for 3 degrees, 0.1 % for 10."""
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees ** (power + 1) for power, term in enumerate(terms))


def floors_of(noise: Iterable[Distances], logit: float = 1.0) -> dict[str, Floor]:
    """The floor of each measure, from distances between seeds, pooled over classes and checkpoints.

    logit: how large a logit is, for the least floor of the score.
    """
    pairs, least = list(noise), LEAST | {"score": LEAST["score"] * (logit or 1.0)}
    found = {}
    for measure in MEASURES:
        samples = [value for pair in pairs if (value := getattr(pair, measure)) is not None]
        if (floor := floor_of(samples, least[measure])) is not None:
            found[measure] = floor
    return found


class Measured(NamedTuple):
    """One measure of a change. above: whether it is more than another seed would do; None where nobody knows."""

    value: float
    floor: float | None
    above: bool | None

    @property
    def excess(self) -> float:
        """How many times the floor it is; where there is none, the distance itself."""
        return self.value / self.floor if self.floor else self.value


@dataclass(frozen=True)
class Change:
    """What has become of one class. flipped: whether somebody who ranked it first no longer does, or the reverse.

    measures: those that could be taken. missing: one of the two images is not there, and there are none.
    """

    class_index: int
    label: str
    measures: Mapping[str, Measured]
    flipped: bool = False
    missing: bool = False

    @property
    def changed(self) -> bool | None:
        """Whether any measure is above its floor; None where there are no floors."""
        if self.missing:
            return True
        known = [one.above for one in self.measures.values() if one.above is not None]
        return any(known) if known else None

    @property
    def order(self) -> tuple[float, ...]:
        """What sorts changes: first who lost its image, then whose verdict changed, then whose score did; among
        these, how far apart they are in the network's own terms."""
        verdict = self._above("own") or self._above("panel")
        unknown = not any(self.measures[name].floor for name in ("own", "panel") if name in self.measures)
        first = (self.missing, self.flipped if unknown else verdict, self._above("score"))
        then = [self.measures[name].excess if name in self.measures else 0.0 for name in _BY_EXCESS]
        return (*(-float(one) for one in first), *(-excess for excess in then), self.class_index)

    def _above(self, measure: str) -> bool:
        return bool(measure in self.measures and self.measures[measure].above)


_BY_EXCESS = ("features", "score", "pixels", "panel", "own")


class Pair(NamedTuple):
    """One class as it was and as it is. apart is None where one of the two images is not there. rise: by how much the
    logit rose."""

    class_index: int
    label: str
    apart: Distances | None
    rise: float | None = None
    flipped: bool = False


def changes(pairs: Iterable[Pair], floors: Mapping[str, Floor]) -> list[Change]:
    """What has become of each class, the most changed first.

    A rise that all classes share says nothing of any: softmax does not see it, and training makes all logits grow. So
    where there are enough classes to tell it, a score's change is what it rose by more or less than the median class.
    """
    pairs = list(pairs)
    typical = typical_rise(pairs) if len(pairs) > FEWEST else 0.0
    found = []
    for pair in pairs:
        measures = {}
        for measure in MEASURES if pair.apart is not None else ():
            value = getattr(pair.apart, measure)
            if measure == "score" and pair.rise is not None:
                value = abs(pair.rise - typical)
            if value is not None:
                floor = floors[measure].value if measure in floors else None
                measures[measure] = Measured(value, floor, None if floor is None else value > floor)
        found.append(Change(pair.class_index, pair.label, measures, pair.flipped, pair.apart is None))
    return sorted(found, key=lambda change: change.order)


def typical_rise(pairs: Iterable[Pair]) -> float:
    """By how much the logit of the median class rose."""
    rises = [pair.rise for pair in pairs if pair.rise is not None and math.isfinite(pair.rise)]
    return median(rises) if rises else 0.0
