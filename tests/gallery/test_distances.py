"""Comparing is arithmetic: distances have closed forms, another seed is no change, and a planted change is one."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from classmodels.gallery.compare import (
    CHANCE,
    FEWEST,
    LEAST,
    MEASURES,
    QUANTILE,
    Distances,
    Floor,
    Pair,
    Seen,
    changes,
    cosine_distance,
    distances,
    floor_of,
    floors_of,
    pixel_distance,
    t_quantile,
)


def seen(**changed: object) -> Seen:
    return Seen(**({"logit": 1.0, "probability": 0.5, "panel": {}} | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 0], [2, 0], 0),
        ([1, 0], [0, 3], 1),
        ([1, 0], [-1, 0], 2),
        ([1, 0], [1, 1], 1 - math.sqrt(0.5)),
        ([3, 4], [4, 3], 1 - 24 / 25),
    ],
)
def test_the_distance_of_features_is_that_of_their_angle(one: list[int], other: list[int], expected: float) -> None:
    assert cosine_distance(np.array(one, float), np.array(other, float)) == pytest.approx(expected)


@pytest.mark.parametrize(("one", "other"), [(None, [1.0]), ([1.0], [1.0, 2.0]), ([0.0, 0.0], [1.0, 2.0])])
def test_there_is_no_angle_between_what_is_not_there_of_another_length_or_zero(
    one: list[float] | None, other: list[float]
) -> None:
    assert cosine_distance(None if one is None else np.array(one), np.array(other)) is None


def test_the_distance_of_pixels_is_their_rms() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert pixel_distance(black, black) == 0
    assert pixel_distance(black, white) == 1
    corner = black.copy()
    corner[:2, :2] = 255  # a quarter of all pixels
    assert pixel_distance(black, corner) == pixel_distance(corner, black) == 0.5
    assert pixel_distance(black, np.zeros((5, 4, 3), np.uint8)) is None


def test_of_the_panel_the_judge_counts_that_changed_its_mind_most_and_only_if_it_judged_both() -> None:
    apart = distances(seen(panel={"a": 0.9, "b": 0.5, "c": 1.0}), seen(panel={"a": 0.8, "b": 0.1, "d": 0.0}))
    assert apart.panel == pytest.approx(0.4)
    assert distances(seen(panel={"a": 0.9}), seen()).panel is None


def test_distances_are_symmetric_and_none_to_itself() -> None:
    rng = np.random.default_rng(0)
    one, other = (
        seen(
            logit=float(rng.normal()),
            probability=float(rng.random()),
            panel={"a": float(rng.random())},
            features=rng.normal(size=7),
            pixels=rng.integers(0, 256, (4, 4, 3), dtype=np.uint8),
        )
        for _ in range(2)
    )
    assert distances(one, other) == distances(other, one)
    assert distances(one, one) == pytest.approx((0, 0, 0, 0, 0), abs=1e-12)


# The noise floor


@pytest.mark.parametrize(
    ("degrees", "expected"), [(3, 10.215), (4, 7.173), (5, 5.893), (10, 4.144), (15, 3.733), (30, 3.385)]
)
def test_quantiles_of_students_t_are_those_of_the_tables(degrees: int, expected: float) -> None:
    assert t_quantile(0.999, degrees) == pytest.approx(expected, rel=0.03 if degrees == 3 else 0.01)


def test_the_floor_of_few_pairs_is_the_bound_of_normal_theory() -> None:
    samples = [1.0, 2.0, 3.0, 4.0, 5.0]  # mean 3, variance 2.5
    found = floor_of(samples)
    assert found is not None
    assert found.count == 5
    assert found.value == pytest.approx(3 + 7.173 * math.sqrt(2.5 * 6 / 5), rel=0.01)


def test_the_floor_is_never_below_what_another_seed_did_nor_below_what_matters() -> None:
    assert floor_of([0.2] * 5) == Floor(0.2, 5)
    assert floor_of([0.0] * 5, least=0.05) == Floor(0.05, 5)


def test_the_floor_of_many_pairs_is_their_quantile() -> None:
    count = 2999
    samples = list(np.random.default_rng(0).permutation(count).astype(float))
    assert floor_of(samples) == Floor(math.ceil((count + 1) * QUANTILE) - 1, count)  # the 2997th of 0, 1, 2, …


def test_fewer_pairs_tell_no_floor_and_then_nothing_is_called_changed_or_unchanged() -> None:
    assert floor_of([1.0] * (FEWEST - 1)) is None
    found = changes([Pair(0, "ant", Distances(0.9, 0.9, 9.0, 1.0, 0.9))], {})
    assert found[0].changed is None
    assert [one.above for one in found[0].measures.values()] == [None] * 5


# What is called changed


def noise(rng: np.random.Generator, count: int) -> list[Distances]:
    """Distances of `count` pairs of seeds: probabilities that rarely move, a normal score, distances that are skewed,
    each independent of the others."""
    own, panel = 0.2 * rng.beta(0.5, 3, count), 0.6 * rng.beta(0.5, 3, count)
    score = np.abs(rng.normal(size=count))
    features, pixels = np.exp(-3 + 0.4 * rng.normal(size=count)), np.exp(-2 + 0.2 * rng.normal(size=count))
    return [Distances(*map(float, one)) for one in zip(own, panel, score, features, pixels, strict=True)]


def rate(pairs: Sequence[Distances], floors: dict[str, Floor]) -> float:
    found = changes([Pair(index, "", apart) for index, apart in enumerate(pairs)], floors)
    return sum(change.changed is True for change in found) / len(found)


@pytest.mark.parametrize(("pairs", "most"), [(FEWEST, 0.06), (8, 0.07), (16, 0.07), (40, 0.06), (1200, 0.02)])
def test_another_seed_is_not_called_changed_but_for_one_class_in_twenty(pairs: int, most: float) -> None:
    rng = np.random.default_rng(0)
    rates = [rate(noise(rng, 50), floors_of(noise(rng, pairs))) for _ in range(200 if pairs < 1000 else 20)]
    assert np.mean(rates) < most
    if pairs < 1000:
        assert np.mean(rates) == pytest.approx(CHANCE, abs=0.02)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_planted_change_in_any_one_measure_is_called_changed_and_comes_first(measure: str) -> None:
    rng = np.random.default_rng(0)
    plain = [Distances(0.01, 0.01, 0.5, 0.05, 0.13)] * 40
    floors = floors_of(noise(rng, 16))
    planted = plain[17]._replace(
        **{measure: {"own": 0.9, "panel": 0.9, "score": 20.0, "features": 0.8, "pixels": 0.9}[measure]}
    )
    found = changes([Pair(i, "", planted if i == 17 else one) for i, one in enumerate(plain)], floors)
    assert [change.class_index for change in found if change.changed] == [17]
    assert found[0].class_index == 17


def test_verdicts_come_before_scores_and_scores_before_what_the_network_sees() -> None:
    floors = {name: Floor(0.1, 16) for name in MEASURES}
    quiet = Distances(0.0, 0.0, 0.0, 0.0, 0.0)
    pairs = [
        Pair(0, "quiet", quiet),
        Pair(1, "pixels", quiet._replace(pixels=0.9)),
        Pair(2, "features", quiet._replace(features=2.0)),
        Pair(3, "nearer", quiet._replace(features=0.05)),
        Pair(4, "score", quiet._replace(score=0.2)),
        Pair(5, "panel", quiet._replace(panel=0.2)),
        Pair(6, "gone", None),
        Pair(7, "own, and far", quiet._replace(own=0.2, features=0.3)),
    ]
    assert [change.class_index for change in changes(pairs, floors)] == [6, 7, 5, 4, 2, 3, 1, 0]


def test_a_rise_that_all_classes_share_says_nothing_of_any() -> None:
    quiet = Distances(0.0, 0.0, 5.0, 0.0, 0.0)
    pairs = [Pair(index, "", quiet, rise=5.0) for index in range(9)]
    pairs.append(Pair(9, "", quiet._replace(score=2.0), rise=2.0))
    found = changes(pairs, {"score": Floor(1.0, 16)})
    assert [change.class_index for change in found if change.changed] == [9]
    assert found[0].measures["score"].value == 3.0


def test_of_few_classes_nobody_knows_what_they_share() -> None:
    found = changes([Pair(0, "", Distances(None, None, 5.0, None, None), rise=5.0)], {"score": Floor(1.0, 16)})
    assert found[0].measures["score"].value == 5.0


def test_where_there_is_no_floor_who_ranks_it_first_decides() -> None:
    apart = Distances(0.1, 0.1, 1.0, 0.1, 0.1)
    pairs = [Pair(0, "", apart._replace(features=0.9)), Pair(1, "", apart, flipped=True)]
    assert [change.class_index for change in changes(pairs, {})] == [1, 0]


def test_what_is_too_small_to_matter_is_no_change_however_quiet_the_noise() -> None:
    still = floors_of([Distances(0.0, 0.0, 0.0, 0.0, 0.0)] * 8)
    assert {name: floor.value for name, floor in still.items()} == LEAST
    assert min(LEAST.values()) > 0
    # A score has no unit: what is small is told by how large scores are.
    large = floors_of([Distances(0.0, 0.0, 0.0, 0.0, 0.0)] * 8, logit=300.0)
    assert large["score"].value == pytest.approx(3.0)
    found = changes([Pair(0, "", Distances(0.04, 0.04, 0.0, 0.0009, 0.003))], still)
    assert found[0].changed is False
