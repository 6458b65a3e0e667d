"""What a night has to do, told from names and times alone."""

from datetime import UTC, datetime, timedelta

import pytest

from classmodels.errors import InputError
from classmodels.nights.discover import Candidate, Found, source_id
from classmodels.nights.names import Names, Told, choose_source, with_sidecar
from classmodels.nights.reconcile import Bounds, Budget, Work, age, moment, reconcile
from classmodels.store import Entry
from classmodels.store.nights import Listing, broken_key, done_key, in_order

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WANTED = ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]


def checkpoint(day: int, source: str = "mine", **told: int | datetime) -> Found:
    """The checkpoint that was written on that day."""
    entry = Entry(f"{source}-{day}.pt", 10, datetime(2026, 1, day, tzinfo=UTC), tag=str(day))
    candidate = Candidate(entry, f"/runs/{entry.key}", source_id(f"/runs/{entry.key}", [entry]), Told(), None)
    return Found(candidate, source, **({"step": None, "epoch": None, "time": None} | told), tags=())


def listing(*done: tuple[Found, int], broken: tuple[Found, ...] = (), recipes: list[str] = WANTED) -> Listing:
    keys = [done_key("job", one.checkpoint12, wanted, version) for one, version in done for wanted in recipes]
    return Listing.of("job", [*keys, *(broken_key("job", one.checkpoint12) for one in broken)])


def todo(found: list[Found], held: Listing, bounds: Bounds = Bounds(), version: int = 1) -> list[tuple[str, str]]:  # noqa: B008
    works: list[Work] = reconcile(found, held, WANTED, version, bounds)
    budget = Budget(bounds.max_new)
    return [(one.found.uri.rpartition("/")[2], one.why) for one in works if within(budget, one)]


def within(budget: Budget, work: Work) -> bool:
    allowed = budget.allows(work)
    if allowed:
        budget.spend(work)
    return allowed


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("step_000100.pt", (None, 100, None)),
        ("epoch=3-step=1200.ckpt", (None, 1200, 3)),
        ("mine/checkpoint-500/model.safetensors", ("mine", 500, None)),
        ("runs/step-3-sweep/other/epoch_7.pth", ("other", 3, 7)),
        ("mine.pt", ("mine", None, None)),
        ("best.safetensors", (None, None, None)),
        ("mine/checkpoint-500/model.safetensors.index.json", ("mine", 500, None)),
    ],
)
def test_usual_names_tell_model_step_and_epoch(path: str, expected: tuple[str | None, int | None, int | None]) -> None:
    told = Names(None, ["mine", "other"]).read(path)
    assert told is not None
    assert (told.model, told.step, told.epoch) == expected


@pytest.mark.parametrize(
    "path",
    [
        "mine/checkpoint-500/optimizer.pt",
        "mine/checkpoint-500/rng_state.pth",
        "training_args.bin",
        "model-00001-of-00003.safetensors",
        "step_100.pt.json",
        "log.txt",
    ],
)
def test_what_lies_beside_a_checkpoint_is_none(path: str) -> None:
    assert Names(None, ["mine"]).read(path) is None


@pytest.mark.parametrize(
    "name", ["run-2026-01-31T02-03-04.pt", "20260131T020304.pt", "a_20260131020304.pt", "2026-01-31_02-03-04.pt"]
)
def test_a_time_in_a_name_is_read_however_it_is_written(name: str) -> None:
    told = Names(None, ["mine"]).read(name)
    assert told is not None
    assert told.time == datetime(2026, 1, 31, 2, 3, 4, tzinfo=UTC)


def test_a_pattern_takes_the_whole_path_and_its_groups() -> None:
    names = Names(r"(?P<model>\w+)/e(?P<epoch>\d+)/net\.pt", ["mine"])
    assert names.read("mine/e7/net.pt") == Told(model="mine", epoch=7)
    assert names.read("mine/e7/net.pt.bak") is None
    assert names.read("x/mine/e7/net.pt") is None


@pytest.mark.parametrize(("pattern", "said"), [("(", "no regular expression"), ("(?P<stp>.*)", "did you mean")])
def test_a_pattern_that_is_none_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        Names(pattern, ["mine"])


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"\x80\x04",
        b'{"step": -1}',
        b'{"step": true}',
        b'{"model": "../../etc"}',
        b'{"model": "os:system"}',
        b'{"time": "tomorrow"}',
        b'{"tags": "best"}',
        b"[" * 100_000,
        b" " * 100_000,
    ],
)
def test_a_hostile_sidecar_is_a_sentence(data: bytes) -> None:
    with pytest.raises(InputError, match="its sidecar") as raised:
        with_sidecar(Told(), data)
    assert len(str(raised.value)) < 400


def test_a_sidecar_is_laid_over_the_name_and_chooses_among_the_templates_models() -> None:
    data = (
        b'{"model": "other", "step": 7, "time": "2026-01-31T02:00:00+01:00", "tags": ["best"], "factory": "os:system"}'
    )
    told = with_sidecar(Told(model="mine", step=3, epoch=1), data)
    assert told == Told("other", 7, 1, datetime(2026, 1, 31, 1, tzinfo=UTC), ("best",))
    assert choose_source(told, ["mine", "other"]) == "other"
    with pytest.raises(InputError, match="it names the model 'other', expected one of mine"):
        choose_source(told, ["mine"])
    with pytest.raises(InputError, match="nothing tells which of mine, third"):
        choose_source(Told(), ["mine", "third"])
    assert choose_source(Told(), ["mine"]) == "mine"


def test_the_newest_of_each_model_come_first() -> None:
    found = [checkpoint(day, source) for source in ("b", "a") for day in (1, 2, 3)]
    assert [uri for uri, _ in todo(found, listing())] == ["a-3.pt", "b-3.pt", "a-2.pt", "b-2.pt", "a-1.pt", "b-1.pt"]


def test_steps_order_checkpoints_where_all_have_one_and_times_before_steps() -> None:
    by_step = [checkpoint(1, step=300), checkpoint(2, step=100), checkpoint(3, step=200)]
    assert [uri for uri, _ in todo(by_step, listing())] == ["mine-1.pt", "mine-3.pt", "mine-2.pt"]
    some = [*by_step[:2], checkpoint(3)]
    assert [uri for uri, _ in todo(some, listing())] == ["mine-3.pt", "mine-2.pt", "mine-1.pt"]
    by_time = [checkpoint(day, step=day, time=NOW - timedelta(days=day)) for day in (1, 2, 3)]
    assert [uri for uri, _ in todo(by_time, listing())] == ["mine-1.pt", "mine-2.pt", "mine-3.pt"]


def test_bounds_hold_for_each_model_and_max_new_for_the_night() -> None:
    found = [checkpoint(day, source) for source in ("a", "b") for day in (1, 2, 3)]
    assert todo(found, listing(), Bounds(keep_last=1)) == [("a-3.pt", "new"), ("b-3.pt", "new")]
    assert todo(found, listing(), Bounds(since=datetime(2026, 1, 3, tzinfo=UTC))) == [
        ("a-3.pt", "new"),
        ("b-3.pt", "new"),
    ]
    assert todo(found, listing(), Bounds(max_new=3)) == [("a-3.pt", "new"), ("b-3.pt", "new"), ("a-2.pt", "new")]


def test_what_was_begun_is_carried_on_and_takes_no_new_ones_place() -> None:
    found = [checkpoint(day) for day in (1, 2, 3, 4)]
    held = listing()
    held.sources |= {one.checkpoint12 for one in found[2:]}
    assert [uri for uri, _ in todo(found, held, Bounds(max_new=1))] == ["mine-4.pt", "mine-3.pt", "mine-2.pt"]


def test_what_is_equal_in_time_is_ordered_by_step_and_not_by_when_it_was_written() -> None:
    day = datetime(2026, 1, 1, tzinfo=UTC)
    found = [checkpoint(number, time=day, step=step) for number, step in ((1, 900), (2, 100), (3, 500))]
    assert [one.step for one in in_order(found)] == [100, 500, 900]
    by_epoch = [checkpoint(number, time=day, epoch=epoch) for number, epoch in ((1, 3), (2, 1), (3, 2))]
    assert [one.epoch for one in in_order(by_epoch)] == [1, 2, 3]


def test_what_is_broken_is_looked_at_again_where_that_is_asked_for() -> None:
    one, two = checkpoint(1), checkpoint(2)
    assert todo([one, two], listing((one, 1), broken=(two,)), Bounds(refresh=True)) == [
        ("mine-2.pt", "again"),
        ("mine-1.pt", "again"),
    ]


def test_what_is_done_or_broken_is_left_alone_until_it_changes() -> None:
    one, two = checkpoint(1), checkpoint(2)
    assert todo([one, two], listing((one, 1), broken=(two,))) == []
    half = listing((one, 1), recipes=WANTED[:1])
    assert todo([one], half) == [("mine-1.pt", "new")]


def test_a_new_version_is_for_new_checkpoints_and_one_bridge() -> None:
    one, two, three = (checkpoint(day) for day in (1, 2, 3))
    assert todo([one, two, three], listing((one, 1), (two, 1)), version=2) == [
        ("mine-3.pt", "new"),
        ("mine-2.pt", "bridge"),
    ]
    bridged = listing((one, 1), (two, 1), (two, 2), (three, 2))
    assert todo([one, two, three], bridged, version=2) == []
    again = todo([one, two, three], bridged, Bounds(refresh=True), version=2)
    assert again == [("mine-3.pt", "again"), ("mine-2.pt", "again"), ("mine-1.pt", "again")]


def test_a_bridge_that_was_cut_off_is_completed() -> None:
    one = checkpoint(1)
    held = listing((one, 1))
    held.done[one.checkpoint12].add((WANTED[0], 2))
    assert todo([one], held, version=2) == [("mine-1.pt", "bridge")]


def test_a_checkpoint_that_was_deleted_on_purpose_is_no_bridge_and_not_done_again() -> None:
    one, two = checkpoint(1), checkpoint(2)
    held = listing((one, 1), (two, 1))
    works = reconcile([one, two], held, WANTED, 2, Bounds(), lambda found: found is two)
    assert [(work.found, work.why) for work in works] == [(one, "bridge")]
    assert reconcile([two], held, WANTED, 2, Bounds(refresh=True), lambda found: True) == []


def test_ages_and_dates_are_read() -> None:
    assert age("--settled", "10m") == timedelta(minutes=10)
    assert moment("--since", "2026-01-31", NOW) == datetime(2026, 1, 31, tzinfo=UTC)
    assert moment("--since", "2d", NOW) == NOW - timedelta(days=2)
    for wrong in ("10", "m", "-1d", "yesterday"):
        with pytest.raises(InputError, match=wrong):
            moment("--since", wrong, NOW)
