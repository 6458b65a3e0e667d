"""What stored objects may say: bounds and patterns that keep a hostile one from doing harm."""

import json
from typing import Any

import pytest

from classmodels.store import RunPlan, Verdict
from classmodels.store.records import JudgeEntry, Outcome, Stored, TopClass, canonical, dump, parse
from classmodels.store.seal import sealed

JUDGE = {"name": "vgg16", "model12": "0123456789ab", "judge12": "0123456789ab", "family": "vgg"}
VALID: dict[type[Stored], dict[str, Any]] = {
    JudgeEntry: JUDGE,
    RunPlan: {"job": "figure-1", "run12": "0123456789ab", "records": ["units/a"], "judges": [JUDGE]},
    TopClass: {"index": 9, "label": "ostrich", "probability": 1.0},
    Outcome: {"logit": 1.5, "probability": None, "rank": 1},
    Verdict: {
        "judge": "vgg16",
        "judge12": "0123456789ab",
        "judge_family": "",
        "record": "units/a",
        "image_sha256": "0" * 64,
        "class_index": None,
        "rank": None,
        "probability": None,
        "top": [],
    },
}
WRONG: list[tuple[type[Stored], str, list[Any]]] = [
    (RunPlan, "job", ["", ".", "..", "../../x", "a/b", "a\n", " a", "-a", "x" * 65]),
    (JudgeEntry, "name", ["", "..", "a/b", "<b>", "x" * 65]),
    *[
        (kind, name, ["", "0123456789a", "0123456789abc", "0123456789AB", "../456789ab/", "0123456789ab\n"])
        for kind, name in ((RunPlan, "run12"), (JudgeEntry, "model12"), (JudgeEntry, "judge12"))
    ],
    *[(kind, "probability", [-0.1, 1.1, 1e308, float("inf"), float("nan")]) for kind in (TopClass, Outcome, Verdict)],
    *[(kind, "rank", [0, -1, 1.5]) for kind in (Outcome, Verdict)],
]


@pytest.mark.parametrize("kind", VALID)
def test_a_valid_object_is_read_as_it_was_written(kind: type[Stored]) -> None:
    value = kind.model_validate(VALID[kind])
    assert parse(kind, dump(value)) == value


@pytest.mark.parametrize(("kind", "name", "values"), WRONG)
def test_what_no_run_writes_is_not_an_object(kind: type[Stored], name: str, values: list[Any]) -> None:
    for value in values:
        assert parse(kind, sealed(json.dumps(VALID[kind] | {name: value}).encode() + b"\n")) is None, value


@pytest.mark.parametrize("kind", [RunPlan, Verdict])
def test_a_byte_altered_anywhere_makes_an_object_none(kind: type[Stored]) -> None:
    data = dump(kind.model_validate(VALID[kind]))
    for place in range(len(data)):
        for other in {0x20, 0x0A, data[place] ^ 1, data[place] ^ 0x20} - {data[place]}:
            assert parse(kind, data[:place] + bytes([other]) + data[place + 1 :]) is None, (place, other)


@pytest.mark.parametrize("kind", [RunPlan, Verdict])
def test_objects_of_the_version_without_a_digest_are_read(kind: type[Stored]) -> None:
    old = canonical(VALID[kind] | {"version": 1})
    value = parse(kind, old)
    assert value is not None
    assert dump(value) == old
    assert parse(kind, canonical(VALID[kind] | {"version": 2})) is None
