"""Checkpoints stand where their step is, and thumbnails beside each other."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmodels.gallery.axis import GAP, MARGIN, MOST, THUMB, TICKS, WIDTH, apart, axis_of, drawn, ticks
from classmodels.gallery.timeline import Scale

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class At:
    """A checkpoint as far as an axis knows one."""

    step: int | None = None
    epoch: int | None = None
    time: datetime | None = None
    modified: datetime = BEGIN
    uri: str = ""


def test_a_checkpoint_stands_by_its_step_and_not_by_its_turn() -> None:
    axis = axis_of([At(step=step) for step in (0, 100, 1000)])
    assert axis.name == "step"
    room = WIDTH - 2 * MARGIN
    assert axis.at == (MARGIN, MARGIN + room / 10, WIDTH - MARGIN)
    assert [label for label, _ in axis.ticks] == ["0", "200", "400", "600", "800", "1k"]


def test_without_steps_it_stands_by_epoch_or_by_its_time() -> None:
    assert axis_of([At(epoch=1), At(epoch=4, step=7)]).name == "epoch"
    days = [At(step=n and n * 7, modified=BEGIN + timedelta(days=day)) for n, day in ((None, 0), (1, 1), (2, 4))]
    axis = axis_of(days)
    assert axis.name == "time"
    assert axis.at[1] == pytest.approx(MARGIN + (WIDTH - 2 * MARGIN) / 4)
    assert axis.ticks[0][0] == "01 Mar"


@pytest.mark.parametrize(
    ("scores", "low", "high"),
    [([-0.0076, 8.94], "0.0", "8.9"), ([12.0, 312.4], "12", "312"), ([0.101, 0.142], "0.101", "0.142")],
)
def test_scores_are_written_as_exactly_as_it_matters_on_their_scale(scores: list[float], low: str, high: str) -> None:
    scale = Scale(scores)
    assert (scale.label(scale.low), scale.label(scale.high)) == (low, high)


def test_steps_that_do_not_grow_with_the_order_are_no_axis() -> None:
    assert axis_of([At(step=5), At(step=1)]).name == "order"
    assert axis_of([At(step=5), At(step=5)]).at == (MARGIN, WIDTH - MARGIN)
    assert axis_of([At(step=5)]).at == (MARGIN,)


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_ticks_are_few_and_round(low: int, room: int) -> None:
    found = ticks(low, low + room)
    assert len(found) <= TICKS + 1
    assert all(low <= tick <= low + room for tick in found)
    if len(found) > 2:
        assert str(found[1] - found[0]).rstrip("0") in "125"


POSITIONS = st.lists(st.floats(MARGIN, WIDTH - MARGIN), min_size=1, max_size=300).map(sorted)


@given(POSITIONS)
def test_thumbnails_keep_their_order_and_their_distance_and_stay_on_the_strip(at: list[float]) -> None:
    chosen = drawn(at)
    assert len(chosen) == min(len(at), MOST)
    assert (chosen[0], chosen[-1]) == (0, len(at) - 1)
    placed = apart([at[i] for i in chosen])
    assert all(b - a >= THUMB + GAP - 0.2 for a, b in pairwise(placed))
    assert placed[0] >= MARGIN - 1
    assert placed[-1] <= WIDTH - MARGIN


def test_of_many_checkpoints_those_are_drawn_that_are_spread_evenly() -> None:
    chosen = drawn([MARGIN + i * (WIDTH - 2 * MARGIN) / 240 for i in range(241)])
    assert chosen == list(range(0, 241, 20))


def test_thumbnails_with_room_stand_exactly_where_their_step_is() -> None:
    assert apart([50.0, 300.0, 900.0]) == [50.0, 300.0, 900.0]
