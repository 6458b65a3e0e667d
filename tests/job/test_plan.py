"""The plan: which units, in which order, in which shard; and what they will cost."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmodels.errors import InputError
from classmodels.job.check import load_job
from classmodels.job.plan import Plan, by_task, expand_plan, selector
from classmodels.run.estimate import FRAME_SHARE, PNG_SHARE, RECORD_BYTES, estimate, seconds_per_step
from classmodels.store import open_store


@pytest.fixture
def planned(tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]]) -> Any:
    """`planned(**changes)`: the plan of two models under two recipes, three classes each, with these changes."""
    model = tiny_data()["models"][0]

    def plan(folder: Path = tmp_path, **changes: Any) -> Plan:
        whole = {
            "models": [model, model | {"name": "second", "head": "sigmoid"}],
            "recipes": [{"name": "quick", "steps": 3}, "l2"],
            "classes": [4, "ant", "crow"],
        }
        return expand_plan(load_job(write_job(folder, **whole | changes)))

    return plan


def names(plan: Plan) -> list[str]:
    return [str(unit) for unit in plan.units]


# Order


def test_models_are_outermost_and_classes_innermost_in_the_order_of_the_job(planned: Callable[..., Plan]) -> None:
    assert names(planned()) == [
        f"{model}/{recipe}/{label}"
        for model in ("tiny", "second")
        for recipe in ("quick", "l2")
        for label in ("4 (eel)", "0 (ant)", "2 (crow)")
    ]


def test_judges_have_no_units(planned: Callable[..., Plan], tiny_data: Callable[[], dict[str, Any]]) -> None:
    model = tiny_data()["models"][0]
    plan = planned(models=[model, model | {"name": "judge", "role": "judge"}])
    assert {unit.task.model.spec.name for unit in plan.units} == {"tiny"}


def test_a_units_record_lies_where_the_contract_says(planned: Callable[..., Plan]) -> None:
    unit = planned().units[0]
    assert re.fullmatch(r"units/tiny@[0-9a-f]{12}/quick@[0-9a-f]{12}/0004\.json", unit.record_key)
    assert unit.task.model.model12 in unit.record_key
    assert unit.task.recipe12 in unit.record_key


def test_by_task_keeps_every_unit_in_order(planned: Callable[..., Plan]) -> None:
    plan = planned()
    groups = list(by_task(plan.units))
    assert [len(units) for _, units in groups] == [3, 3, 3, 3]
    assert [unit for _, units in groups for unit in units] == list(plan.units)


def test_a_class_without_a_label_goes_by_its_index(
    planned: Callable[..., Plan], tiny_data: Callable[[], dict[str, Any]]
) -> None:
    bare = tiny_data()["models"][0] | {"labels": None}
    assert names(planned(models=[bare], classes=[3], recipes=["l2"])) == ["tiny/l2/3"]


# Shards


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 300), st.integers(1, 40))
def test_shards_partition_the_plan_in_order_and_evenly(count: int, shards: int) -> None:
    units = tuple(range(count))
    plan = Plan(job=SimpleNamespace(), units=units)  # type: ignore[arg-type]
    parts = [plan.shard(index, shards) for index in range(shards)]
    assert sum(parts, ()) == units
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


# run12


def test_run12_is_the_same_for_the_same_plan_wherever_it_lies(planned: Callable[..., Plan], tmp_path: Path) -> None:
    assert planned().run12 == planned().run12 == planned(folder=tmp_path / "elsewhere").run12
    assert re.fullmatch(r"[0-9a-f]{12}", planned().run12)


@pytest.mark.parametrize(
    "change",
    [
        {"output": "./elsewhere"},
        {"animation": {"format": "gif"}},
        {"limits": {"units": 100}},
        {"cluster": {"shards": 3}},
        {"storage": {"region": "x"}},
    ],
    ids=str,
)
def test_run12_is_the_same_wherever_results_go(planned: Callable[..., Plan], change: dict[str, Any]) -> None:
    assert planned(**change).run12 == planned().run12


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"seed": 1},
        {"classes": [4, "ant"]},
        {"classes": ["ant", 4, "crow"]},
        {"recipes": ["l2"]},
        {"recipes": [{"name": "brief", "steps": 3}, "l2"]},
        {"panel": ["tiny"]},
        {"panel": ["second"]},
        {"panel": [{"model": "tiny", "map": {"ant": 1}}]},
    ],
    ids=str,
)
def test_run12_changes_with_what_is_made_or_judged(planned: Callable[..., Plan], change: dict[str, Any]) -> None:
    assert planned(**change).run12 != planned().run12


# --only


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ([], 12),
        (["*/*/*"], 12),
        (["tiny/*/*"], 6),
        (["*/l2/*"], 6),
        (["*/*/ant"], 4),
        (["*/*/ANT"], 4),
        (["*/*/0"], 4),
        (["*/*/*w"], 4),
        (["tiny/quick/crow"], 1),
        (["tiny/quick/crow", "second/*/4"], 3),
        (["tiny/*/*", "*/*/ant"], 8),
    ],
)
def test_patterns_choose_units_by_model_recipe_and_class(
    planned: Callable[..., Plan], patterns: list[str], chosen: int
) -> None:
    units = planned().units
    assert sum(map(selector(patterns, units), units)) == chosen


@pytest.mark.parametrize("pattern", ["tiny", "tiny/l2", "*", ""])
def test_a_pattern_of_fewer_than_three_parts_is_refused(planned: Callable[..., Plan], pattern: str) -> None:
    with pytest.raises(InputError, match=r"expected MODEL/RECIPE/CLASS, such as \*/l2/ostrich"):
        selector([pattern], planned().units)


@pytest.mark.parametrize("pattern", ["*/*/owl", "Tiny/*/*", "*/l1/*", "*/*/1"])
def test_a_pattern_that_no_unit_matches_is_refused(planned: Callable[..., Plan], pattern: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"--only {pattern!r}: found no such unit")):
        selector(["*/*/ant", pattern], planned().units)


def test_a_label_with_a_slash_can_be_chosen(planned: Callable[..., Plan], tmp_path: Path) -> None:
    plan = planned()
    (tmp_path / "labels.txt").write_text("ant/bee\nb\nc\nd\ne\n")
    units = expand_plan(load_job(tmp_path / "job.yaml", ["classes=[0, 1]"])).units
    assert len(units) < len(plan.units)
    assert sum(map(selector(["tiny/l2/ant/bee"], units), units)) == 1


# Cost


def record(seconds: float, steps: int) -> bytes:
    from classmodels.store.records import FileEntry, ModelEntry, Outcome, RecipeEntry, Record, dump

    return dump(
        Record(
            model=ModelEntry(
                name="tiny", model12="0" * 12, family="f", head="softmax", classes=5, identity={}, notes=()
            ),
            recipe=RecipeEntry(name="any", recipe12="0" * 12, sha256="0" * 64, settings={}, identity={}),
            class_index=0,
            label="ant",
            seed=0,
            image=FileEntry(name="x.png", sha256="0" * 64, bytes=1, media_type="image/png", width=8, height=8),
            scores=(0.0,) * (steps + 1),
            outcome=Outcome(logit=0, probability=0, rank=1),
            numerics={},
            package={},
            timings={"seconds": seconds},
        )
    )


def test_an_estimate_counts_units_objects_and_bytes(planned: Callable[..., Plan], tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    cost = estimate(planned(panel=["tiny"], animation={"frames": 10, "format": "webp"}), store)
    assert (cost.units, cost.missing) == (12, 12)
    assert cost.objects == 12 * (1 + 1 + 1 + 1)  # image, animation, record, one verdict
    raw = 8 * 8 * 3
    assert cost.bytes == 12 * int(raw * (PNG_SHARE + 10 * FRAME_SHARE["webp"]) + RECORD_BYTES)
    assert cost.device_hours is None


def test_an_estimate_leaves_out_what_is_done(planned: Callable[..., Plan], tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    plan = planned()
    for unit in plan.units[:5]:
        store.write(unit.record_key, b"{}")
    cost = estimate(plan, store)
    assert (cost.units, cost.missing, cost.objects) == (12, 7, 14)


def test_device_hours_come_from_the_median_of_what_was_timed_before(
    planned: Callable[..., Plan], tmp_path: Path, tiny_data: Callable[[], dict[str, Any]]
) -> None:
    store = open_store(str(tmp_path / "out"))
    plan = planned(models=[tiny_data()["models"][0]], recipes=[{"name": "quick", "steps": 3}])
    model12 = plan.units[0].task.model.model12
    for index, seconds in enumerate((10.0, 20.0, 900.0)):
        store.write(f"units/tiny@{model12}/other@{'0' * 12}/{index:04d}.json", record(seconds, 10))
    store.write(f"units/tiny@{model12}/other@{'0' * 12}/0009.json", b"damaged")
    assert seconds_per_step(f"units/tiny@{model12}/", store) == 2.0
    assert estimate(plan, store).device_hours == pytest.approx(3 * 3 * 2.0 / 3600)


def test_nothing_left_to_do_costs_nothing(planned: Callable[..., Plan], tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    plan = planned()
    for unit in plan.units:
        store.write(unit.record_key, b"{}")
    cost = estimate(plan, store)
    assert (cost.missing, cost.objects, cost.bytes, cost.device_hours) == (0, 0, 0, 0.0)
