"""What a page knows: the view is a function of records and verdicts, and believes only what belongs together."""

import json
import time

import pytest

from classmodels.errors import InputError, StoreError
from classmodels.gallery.plain import POINTS, TEXT, curve, one_way, rows, text
from classmodels.gallery.view import _Table
from classmodels.store import Record, RunPlan
from classmodels.store.records import dump
from classmodels.store.seal import sealed


def test_every_planned_unit_is_in_the_view_in_the_plans_order(finished_run):
    run = finished_run(recipes=("natural", "l2"))
    view = run.view()
    assert [unit["index"] for unit in view["units"]] == list(run.classes) * 2
    assert [entry["label"] for entry in view["classes"]] == list(run.classes.values())
    assert view["counts"] == {
        "units": 10,
        "done": 10,
        "missing": 0,
        "damaged": 0,
        "verdicts": 20,
        "verdicts_missing": 0,
        "verdicts_damaged": 0,
    }
    json.dumps(view, allow_nan=False)


def test_a_record_named_twice_is_one_unit(finished_run):
    run = finished_run()
    assert len(run.view(records=run.plan.records * 2)["units"]) == len(run.keys)


def test_timings_and_host_never_enter_the_view(finished_run):
    assert "node-17" not in json.dumps(finished_run().view())


def test_a_missing_record_keeps_its_place_and_its_class(finished_run):
    run = finished_run(recipes=("natural", "l2"))
    run.store.delete(run.keys[0])
    view = run.view()
    assert view["units"][0]["state"] == "missing"
    assert view["units"][0]["label"] == "ostrich"  # known from the other recipe
    assert len(view["classes"]) == 5
    assert view["counts"]["missing"] == 1


def test_a_class_nobody_has_finished_goes_by_its_index(finished_run):
    run = finished_run()
    run.store.delete(run.keys[0])
    assert run.view()["units"][0]["label"] == "class 9"


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        (r'"version": 2', '"version": 3'),
        (r'"class_index": 9,', '"class_index": 10,'),
        (r'"model12": "[0-9a-f]+"', '"model12": "ffffffffffff"'),
        (r'"name": "0009-ostrich[^"]+png"', '"name": "../../../../secret.png"'),
        (r'"name": "0009-ostrich[^"]+png"', '"name": "javascript:alert(1)//"'),
        (r'"name": "0009-ostrich[^"]+webp"', '"name": "..\\\\\\\\secret.webp"'),
        (r'"sha256": "[0-9a-f]+"', '"sha256": "no digest"'),
        (r'"width": 32', '"width": 0'),
        (r"^\{", "{{"),
    ],
)
def test_a_record_that_does_not_belong_under_its_key_is_damaged(finished_run, pattern, by):
    run = finished_run()
    run.change(run.keys[0], pattern, by)
    view = run.view()
    assert view["units"][0]["state"] == "damaged"
    assert "image" not in view["units"][0]
    assert view["counts"]["damaged"] == 1
    assert view["counts"]["done"] == len(run.keys) - 1


def test_held_out_judges_are_those_with_another_model12(finished_run):
    run = finished_run(judges=(("lite0", "lite"), ("lite1", "lite"), ("vgg16", "vgg")))
    view = run.view()
    assert [verdict["relation"] for verdict in view["units"][0]["verdicts"]] == ["itself", "same family", "independent"]
    assert view["units"][0]["held_out"]["judges"] == 2
    assert view["units"][0]["held_out"]["same_family"] == 1


def test_a_judge_that_is_the_model_with_a_map_of_labels_is_no_held_out_judge(finished_run):
    run = finished_run(judges=(("lite0", "lite"),))
    (judge,) = run.plan.judges
    mapped = judge.model_copy(update={"judge12": "abcdefabcdef"})
    (verdict,) = run.view(judges=(mapped,))["units"][0]["verdicts"]
    assert verdict["relation"] == "itself"


def test_unnamed_families_are_no_relatives(finished_run):
    run = finished_run(models=(("a", ""),), judges=(("b", ""),))
    assert run.view()["units"][0]["verdicts"][0]["relation"] == "independent"


def test_missing_and_foreign_verdicts_are_told_apart_and_not_counted(finished_run):
    run = finished_run()
    run.store.delete(run.verdict_key(run.keys[0], 0))
    run.change(run.verdict_key(run.keys[0], 1), r'"image_sha256": "[0-9a-f]+"', f'"image_sha256": "{"0" * 64}"')
    view = run.view()
    assert [verdict["state"] for verdict in view["units"][0]["verdicts"]] == ["missing", "damaged"]
    assert view["units"][0]["held_out"] == {
        "asked": 2,
        "judges": 0,
        "top1": 0,
        "top5": 0,
        "same_family": 0,
        "probability": None,
    }
    assert view["counts"]["verdicts_missing"] == view["counts"]["verdicts_damaged"] == 1


def test_a_judge_that_does_not_know_the_class_is_not_counted(finished_run):
    run = finished_run()
    record = Record.model_validate_json(run.store.read(run.keys[0]))
    run.judge(run.judges[0], run.keys[0], record, rank=None)
    view = run.view()
    assert view["units"][0]["held_out"]["judges"] == 1
    assert view["panel"][0]["cells"][0]["n"] == len(run.keys) - 1


def test_the_panel_table_states_rates_over_the_images_each_judge_answered_for(finished_run):
    run = finished_run(classes={1: "one", 2: "two", 3: "three"}, judges=(("vgg16", "vgg"),))
    (row,) = run.view()["panel"]
    assert row["cells"] == [{"n": 3, "top1": 0.6667, "top5": 1.0, "probability": 0.6167, "relation": "independent"}]
    assert row["held_out"]["top1"] == 0.6667


def test_the_models_own_verdict_is_not_part_of_the_held_out_rate(finished_run):
    run = finished_run(judges=(("lite0", "lite"), ("vgg16", "vgg")))
    (row,) = run.view()["panel"]
    assert row["held_out"]["n"] == len(run.keys)


def test_score_is_set_against_probability_with_the_most_similar_recipe(finished_run):
    run = finished_run(
        recipes=("natural", "plain", "probability"),
        settings={
            "natural": {"transforms": {"jitter": 8}, "regularizers": {"l2": 0.1}},
            "probability": {"objective": "log_prob"},
        },
    )
    view = run.view()
    pairs = view["contrast"]
    assert len(pairs) == len(run.classes)
    for pair in pairs:
        score, probability = view["units"][pair["score"]], view["units"][pair["probability"]]
        assert view["recipes"][score["recipe"]]["name"] == "plain"
        assert view["recipes"][probability["recipe"]]["name"] == "probability"
        assert score["index"] == probability["index"]


def test_without_both_objectives_nothing_is_contrasted(finished_run):
    assert finished_run(recipes=("natural", "l2")).view()["contrast"] == []


def test_what_differs_from_neutral_comes_first(finished_run):
    run = finished_run(settings={"natural": {"regularizers": {"l2": 0.05}, "preconditioner": {"spectral": [1.0, 0.6]}}})
    settings = run.view()["recipes"][0]["settings"]
    assert [row[:2] for row in settings if row[2]] == [
        ["optimizer.lr", "0.06"],
        ["preconditioner.spectral", "[1, 0.6]"],
        ["regularizers.l2", "0.05"],
        ["steps", "256"],
    ]
    assert [row[2] for row in settings] == sorted((row[2] for row in settings), reverse=True)


def test_two_checkpoints_under_one_name_are_told_apart(finished_run):
    run = finished_run()
    other = [key.replace(run.keys[0].split("/")[1], "lite0@aaaaaaaaaaaa") for key in run.keys]
    names = [model["name"] for model in run.view(records=(*run.keys, *other))["models"]]
    assert len(set(names)) == 2
    assert names[1] == "lite0@aaaaaaaaaaaa"


def test_classes_of_two_models_are_one_where_index_and_first_synonym_agree(finished_run):
    run = finished_run(models=(("lite0", "lite"), ("vgg16", "vgg")))
    run.change(run.keys[5], '"label": "ostrich"', '"label": "Ostrich, Struthio camelus"')
    run.change(run.keys[6], '"label": "dalmatian"', '"label": "something else"')
    view = run.view()
    assert view["units"][5]["class"] == view["units"][0]["class"]
    assert view["units"][6]["class"] != view["units"][1]["class"]


def test_not_a_number_becomes_null(finished_run):
    run = finished_run()
    run.change(run.keys[0], r'"logit": [0-9.]+', '"logit": NaN')
    view = run.view()
    assert view["units"][0]["logit"] is None
    json.dumps(view, allow_nan=False)


@pytest.mark.parametrize(
    "key", ["units/a@1/b@2/../../0009.json", "units/a/b/0009.json", "secrets.json", "units/a@1/b@2/x.json"]
)
def test_a_plan_that_names_anything_but_records_is_refused(finished_run, key):
    with pytest.raises(InputError, match="expected units/"):
        finished_run().view(records=(key,))


def test_a_store_that_cannot_be_read_is_an_error_not_an_empty_gallery(finished_run):
    run = finished_run()
    run.store.delete(run.keys[0])
    (run.store.root / run.keys[0]).symlink_to(run.store.root / run.keys[0])
    with pytest.raises(StoreError, match="cannot read"):
        run.view()


def test_an_empty_plan_has_an_empty_view(finished_run):
    view = finished_run().view(records=())
    assert view["units"] == view["panel"] == view["classes"] == []


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 257, 10_001])
def test_a_curve_keeps_its_ends_and_at_most_128_points(length):
    steps, scores = curve(tuple(float(t) for t in range(length)))
    assert steps[0] == 0
    assert steps[-1] == length - 1
    assert len(steps) == len(scores) == min(length, POINTS)
    assert steps == sorted(set(steps))


def test_text_is_one_bounded_line():
    assert text("a\nb\0c") == "a b\ufffdc"
    assert len(text("x" * 10_000)) == TEXT
    assert text("\ud800") == "\ufffd"


def test_attributes_get_no_direction_controls():
    assert one_way("a\u202eb\u2067c") == "abc"


def test_settings_become_rows_with_dotted_names():
    assert rows({"b": {"c": None, "d": {}}, "a": [1, {"x": 2}]}) == [
        ["a", '[1, {"x": 2}]', True],
        ["b.c", "none", True],
        ["b.d", "{}", True],
    ]


def test_the_view_does_not_depend_on_how_a_record_was_written(finished_run):
    run = finished_run()
    before = run.view()
    record = Record.model_validate_json(run.store.read(run.keys[0]))
    run.store.write(run.keys[0], sealed(record.model_dump_json().encode() + b"\n"))
    assert run.view() == before
    assert RunPlan.model_validate_json(dump(run.plan)) == run.plan


def test_values_that_all_differ_are_placed_in_linear_time():
    table, began = _Table(list), time.process_time()
    assert [table.place([["batch", str(i), True]]) for i in range(20_000)] == list(range(20_000))
    assert table.place([["batch", "7", True]]) == 7
    assert len(table.items) == 20_000
    assert time.process_time() - began < 2
