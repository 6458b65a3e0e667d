"""A store that others may write to: nothing they put there stops a gallery, or leads out of its place."""

import json
import logging
import re
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from altered import resealed, said_again
from classmodels.errors import InputError, StoreError
from classmodels.gallery import write_gallery
from classmodels.gallery.plain import DEPTH, LARGEST, ROWS, TEXT, flat, number, rows
from classmodels.gallery.rebuild import rebuild
from classmodels.store import Record
from classmodels.store.records import dump, plan_key, record_name, verdict_key


def change_plan(run, **changed):
    """Write the plan with some fields changed, past every check."""
    plan = json.loads(run.store.read(plan_key(run.plan.run12))) | changed
    run.store.write(plan_key(run.plan.run12), said_again(plan))


def nested(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.fixture
def two(finished_run):
    """A store with two runs, of which the first one to be found is `run.plan`'s; the other one's page."""
    run = finished_run(classes={1: "one"}, animation=None)
    other = run.plan.model_copy(update={"job": "other", "run12": "ffffffffffff"})
    run.store.write(plan_key(other.run12), dump(other))
    return run, f"galleries/other/{other.run12}/index.html"


@pytest.mark.parametrize(
    "wrong",
    [
        {"run12": ""},
        {"run12": "ffffffffffff"},
        {"run12": "../../../x"},
        {"job": ""},
        {"job": "../../x"},
        {"job": "a/b"},
        {"records": ["units/a@0123456789ab/b@0123456789ab/../../0009.json"]},
        {"records": ["units/a\0@0123456789ab/b@0123456789ab/0009.json"]},
        {"records": ["runs/" + "x" * 100_000]},
        {"judges": [{"name": "../../x", "model12": "0" * 12, "judge12": "0" * 12, "family": ""}]},
        {"judges": [{"name": "x", "model12": "0" * 12, "judge12": "/", "family": ""}]},
        {"version": 3},
    ],
)
def test_a_wrong_plan_is_passed_over_and_the_others_are_shown(two, wrong, caplog):
    run, page = two
    change_plan(run, **wrong)
    with caplog.at_level(logging.WARNING, "classmodels"):
        assert rebuild(run.store) == [page]
    assert re.search(rf"'runs/{run.plan.run12}/plan.json' is passed over: ", caplog.text)
    assert len(caplog.text) < 1000
    written = [key for key in run.store.list("") if "galleries" in key]
    assert {key.rpartition("/")[0] for key in written} == {page.rpartition("/")[0]}


def test_a_plan_cannot_write_over_the_page_of_another_run(two):
    run, page = two
    rebuild(run.store)
    before = run.store.read(page)
    change_plan(run, run12="ffffffffffff", job="other", records=[])
    rebuild(run.store)
    assert run.store.read(page) == before


def test_where_every_plan_is_wrong_no_run_is_found(finished_run):
    run = finished_run(classes={1: "one"})
    change_plan(run, job="")
    with pytest.raises(InputError, match="found no run"):
        rebuild(run.store)


def test_a_record_that_cannot_be_read_stops_only_its_own_gallery_and_is_told(two, tmp_path):
    run, page = two
    (tmp_path / "secret").write_bytes(b"{}")
    key = run.keys[0].replace("0001.json", "0002.json")
    (run.store.root / key).symlink_to(tmp_path / "secret")
    change_plan(run, records=[key])
    with pytest.raises(StoreError, match=f"'{key}' leaves the folder"):
        rebuild(run.store)
    assert run.store.read(page) is not None


def test_a_linked_galleries_folder_is_not_written_through(finished_run, tmp_path):
    run = finished_run(classes={1: "one"})
    (run.store.root / "galleries").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="leaves the folder"):
        rebuild(run.store)
    assert list(tmp_path.iterdir()) == []


def test_a_probability_that_is_none_makes_a_verdict_damaged(finished_run):
    run = finished_run(classes={1: "one"})
    for judge in range(2):
        run.change(run.verdict_key(run.keys[0], judge), r'(?m)^ "probability": [0-9.]+', ' "probability": 1e308')
    write_gallery(run.store, run.plan)
    assert run.view()["counts"]["verdicts_damaged"] == 2


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("image", "x" * 100_000 + ".png"),
        ("image", "x" * 252 + ".png"),
        ("image", "鴕" * 84 + ".png"),
        ("image", "0001-one.html"),
        ("image", "0001-one.png\n"),
        ("image", ".png"),
        ("animation", "x" * 251 + ".webp"),
        ("animation", "0001-one.svg"),
        ("animation", "0001.json"),
    ],
)
def test_a_file_that_no_folder_could_hold_or_no_run_writes_is_damage(finished_run, name, by):
    run = finished_run(classes={1: "one", 2: "two"})
    record = json.loads(run.store.read(run.keys[0]))
    record[name]["name"] = by
    run.store.write(run.keys[0], said_again(record))
    write_gallery(run.store, run.plan)
    assert [unit["state"] for unit in run.view()["units"]] == ["damaged", "done"]


def test_the_longest_name_that_a_folder_holds_is_shown(finished_run):
    run = finished_run(classes={1: "one"}, judges=())
    record = Record.model_validate_json(run.store.read(run.keys[0]))
    image = record.image.model_copy(update={"name": "x" * 251 + ".png"})
    run.store.write(run.keys[0], dump(record.model_copy(update={"image": image})))
    write_gallery(run.store, run.plan)
    assert run.view()["counts"]["done"] == 1


@pytest.mark.parametrize("size", [1 << 24, (1 << 24) + 1])
def test_an_object_of_many_megabytes_is_damage(finished_run, size):
    run = finished_run(classes={1: "one"})
    data = run.store.read(run.keys[0])
    run.store.write(run.keys[0], resealed(b" " * (size - len(data)) + data))
    assert run.view()["counts"]["done"] == (size == 1 << 24)


def test_settings_are_bounded_in_number_depth_and_length_of_names():
    assert len(flat({str(i): i for i in range(10_000)})) == ROWS
    assert list(flat(nested(DEPTH + 1, 1))) == [".".join("x" * DEPTH)]
    deep: Any = {f"{i}": 0 for i in range(1000)}
    for _ in range(DEPTH):
        deep = {"y" * 100_000: deep}
    began = time.monotonic()
    assert all(len(name) <= 2 * TEXT for name in flat(deep))
    assert all(len(name) <= TEXT and len(value) <= TEXT for name, value, _ in rows(deep))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("value", [1.7976931348623157e308, -1.7976931348623157e308, LARGEST * 2, float("nan")])
def test_a_number_that_no_float32_could_be_is_none(value):
    assert number(value) is None
    assert number(3.4028234663852886e38) == pytest.approx(3.4028e38)


PIECES = {
    "null": None,
    "true": True,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "2^64": 2**64,
    "10^4000": 10**4000,
    "1e308": 1e308,
    "the largest float": -1.7976931348623157e308,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "no text": "",
    "a number as text": "1e999",
    "5000 digits as text": "9" * 5000,
    "a path": "../../x",
    "a zero byte": "a\0b",
    "half a surrogate": "\ud800",
    "markup": "</script><!--",
    "100,000 characters": "x" * 100_000,
    "an empty list": [],
    "extremes": [1e308, -1e308] * 100,
    "a long list": list(range(20_000)),
    "a list of anything": [None, {}, [[]], "x", float("nan")],
    "an empty mapping": {},
    "a mapping without names": {"": {"": ""}},
    "a wide mapping": {str(i): i for i in range(2_000)},
    "deep": nested(150, 0),
    "too deep": nested(500, 0),
}
"""One of each kind of value that a hostile object may hold, by what it is."""
JUNK = st.one_of(
    st.integers(),
    st.floats(),
    st.text(),
    st.integers(1, 300).map(lambda depth: nested(depth, 0)),
    st.recursive(st.none() | st.floats() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value in a JSON value, the first few of long lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    return [path, *(place for name, item in items for place in places(item, (*path, name)))]


def changed(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    """`value` with the value at `path` replaced."""
    if not path:
        return junk
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], junk)
    return copy


@pytest.fixture(scope="module")
def mutated(finished_run):
    """A run whose first record and one verdict on it are to be mutated: the run, and each key with its JSON value."""
    run = finished_run(
        classes={1: "one", 2: "two"},
        recipes=("natural", "probability"),
        side=8,
        settings={"probability": {"objective": "log_prob"}},
        notes=("note",),
    )
    keys = [run.keys[0], run.verdict_key(run.keys[0], 0)]
    return run, [(key, run.store.read(key), json.loads(run.store.read(key))) for key in keys]


@pytest.mark.parametrize("junk", PIECES.values(), ids=PIECES)
def test_junk_in_any_place_of_a_record_or_verdict_never_stops_the_page(finished_run, junk):
    run = finished_run(classes={1: "one"}, side=8, notes=("note",), judges=(("lite1", "lite"),))
    record, verdict = (json.loads(run.store.read(key)) for key in (run.keys[0], run.verdict_key(run.keys[0], 0)))
    keys = []
    for value, is_record in ((record, True), (verdict, False)):
        for place in places(value):
            key = run.keys[0].replace("0001.json", record_name(100 + len(keys)))
            fitting = changed(record, ("class_index",), 100 + len(keys))
            run.store.write(key, said_again(changed(fitting, place, junk) if is_record else fitting))
            judged = said_again(verdict if is_record else changed(verdict, place, junk))
            judge = run.judges[0]
            run.store.write(
                verdict_key(judge.name, judge.model12, judge.judge12, key, record["image"]["sha256"]), judged
            )
            keys.append(key)
    plan = run.plan.model_copy(update={"records": tuple(keys)})
    page = run.store.read(write_gallery(run.store, plan)).decode()
    json.loads(island_of(page), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert len(page) < 2_000_000
    assert run.view(records=plan.records)["counts"]["units"] == len(keys) > 80


def island_of(page: str) -> str:
    return page[page.index('id="view">') + len('id="view">') :].partition("</script>")[0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_one_value_replaced_by_junk_never_stops_the_page(mutated, data):
    run, objects = mutated
    key, original, value = data.draw(st.sampled_from(objects), "object")
    mutant = changed(value, data.draw(st.sampled_from(places(value)), "place"), data.draw(JUNK, "junk"))
    run.store.write(key, said_again(mutant))
    try:
        page = run.store.read(write_gallery(run.store, run.plan)).decode()
        states = [unit["state"] for unit in run.view()["units"]]
    finally:
        run.store.write(key, original)
    assert states in (["done"] * 4, ["damaged", *["done"] * 3])
    json.loads(island_of(page), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert len(page) < 1_000_000


@settings(max_examples=50, deadline=None)
@given(st.binary())
@example(b"[" * 1_000_000)
@example(b"{" * 1_000_000)
@example(b"1" * 1_000_000)
@example(b"\xff\xfe{}")
def test_bytes_that_are_no_record_are_damage(mutated, junk):
    run, objects = mutated
    for key, original, _ in objects:
        run.store.write(key, junk)
        try:
            write_gallery(run.store, run.plan)
            counts = run.view()["counts"]
        finally:
            run.store.write(key, original)
        assert counts["damaged"] + counts["verdicts_damaged"] == 1
