"""A night over a folder or a bucket: what is new is done, what is done is left alone, what is broken stops no other."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save

from classmodels.errors import FetchError, StoreError
from classmodels.run import verdicts
from classmodels.store.folder import FolderStore
from classmodels.store.nights import compare_prefix, in_order
from nights_at_work import JOB, Nights, ends, left


@pytest.fixture(params=["folder", "bucket"])
def anywhere(request: pytest.FixtureRequest, nights: Nights) -> Nights:
    return nights if request.param == "folder" else request.getfixturevalue("bucket_nights")


def test_each_new_checkpoint_gets_a_gallery_and_an_entry_and_the_next_night_does_nothing(anywhere: Nights) -> None:
    for step in (100, 200, 300):
        anywhere.save(f"step_{step:06d}.safetensors", seed=step)
    first = anywhere.night()
    assert [(one["step"], one["end"], one["made"]) for one in first["checkpoints"]] == [
        (300, "done", 2),
        (200, "done", 2),
        (100, "done", 2),
    ]
    entries = in_order(anywhere.entries)
    assert [one.step for one in entries] == [100, 200, 300]
    for one in entries:
        assert anywhere.store.read(f"galleries/{JOB}/{one.run12}/index.html")
    latest = json.loads(anywhere.store.read(f"galleries/{JOB}/latest.json") or b"")
    assert latest["run12"] == entries[-1].run12
    before = {key: anywhere.store.read(key) for key in anywhere.store.list("")}
    assert anywhere.run().out == "nothing new\n"
    assert {key: anywhere.store.read(key) for key in anywhere.store.list("")} == before


def test_each_checkpoint_judges_its_own_class_models_its_noise_and_those_of_the_next_one(nights: Nights) -> None:
    nights.save("step_1.safetensors", seed=1)
    nights.save("step_2.safetensors", seed=2)
    nights.night()
    older, newer = in_order(nights.entries)
    for judged in (older, newer):
        folder = f"verdicts/{older.source}@{older.model12}/{judged.source}@{judged.model12}"
        for recipe12 in {
            judged.recipe12,
            judged.noise.recipe12 if judged is older and judged.noise else judged.recipe12,
        }:
            keys = list(nights.store.list(f"{folder}/{judged.recipe}@{recipe12}/"))
            assert len(keys) == 2
            for key in keys:
                assert key.endswith(f".{older.judge12}.json")
                assert json.loads(nights.store.read(key) or b"")["features"]["values"]


def test_judges_of_the_template_see_the_noise_too(nights: Nights) -> None:
    template = yaml.safe_load(nights.template.read_text())
    model = template["models"][0]
    judge = nights.template.parent / "judge.safetensors"
    judge.write_bytes(save(nights.network(seed=9).state_dict()))
    template["panel"] = "all"
    template["models"].append(model | {"name": "held-out", "checkpoint": "./judge.safetensors", "role": "judge"})
    nights.template.write_text(yaml.safe_dump(template))
    nights.save("step_1.safetensors", seed=1)
    nights.night()
    (entry,) = nights.entries
    assert entry.noise is not None
    judged = [key for key in nights.store.list("verdicts/held-out@") if f"@{entry.noise.recipe12}/" in key]
    assert len(judged) == len(entry.noise.classes)


def test_a_broken_checkpoint_is_told_once_stops_no_other_and_is_tried_again_once_it_changed(anywhere: Nights) -> None:
    anywhere.save("step_1.safetensors", seed=1)
    anywhere.save("step_2.safetensors", data=b"\x08\x00\x00\x00\x00\x00\x00\x00{}      and no more")
    anywhere.save("step_3.safetensors", seed=3)
    first = anywhere.night(code=3)
    assert ends(first) == {
        "step_3.safetensors": "done",
        "step_2.safetensors": "broken",
        "step_1.safetensors": "done",
    }
    (reason,) = (one["reason"] for one in first["checkpoints"] if one["end"] == "broken")
    markdown = (anywhere.store.read(first["summary"]) or b"").decode()
    assert reason in markdown
    for page in (f"nights/{JOB}/index.html", f"nights/{JOB}/timeline/tiny/index.html"):
        assert "step_2.safetensors" in (anywhere.store.read(page) or b"").decode(), page
    assert anywhere.run().out == "nothing new\n"
    anywhere.save("step_2.safetensors", seed=2, old=1800)
    assert ends(anywhere.night()) == {"step_2.safetensors": "done"}
    assert not anywhere.listing.broken
    assert len(anywhere.entries) == 3


def test_a_checkpoint_that_lacks_what_select_names_is_broken_and_stops_no_other(nights: Nights) -> None:
    template = yaml.safe_load(nights.template.read_text())
    template["models"][0]["select"] = "ema"
    nights.template.write_text(yaml.safe_dump(template))
    for step, entry in ((1, "ema"), (2, "model")):
        file = io.BytesIO()
        torch.save({entry: nights.network(seed=step).state_dict()}, file)
        nights.save(f"step_{step}.pt", data=file.getvalue())
    summary = nights.night(code=3)
    assert ends(summary) == {"step_2.pt": "broken", "step_1.pt": "done"}
    assert "it has no entry ema" in summary["checkpoints"][0]["reason"]
    assert nights.store.read(summary["summary"])
    assert nights.run().out == "nothing new\n"
    # Once the template is mended, whoever says so has it looked at again.
    template["models"][0].pop("select")
    nights.template.write_text(yaml.safe_dump(template))
    assert ends(nights.night("--refresh"))["step_2.pt"] == "done"
    assert not nights.listing.broken


def test_a_template_that_does_not_fit_its_network_blames_no_checkpoint(nights: Nights) -> None:
    template = yaml.safe_load(nights.template.read_text())
    model = template["models"][0]
    (nights.template.parent / "three.txt").write_text("a\nb\nc\n")
    template["models"] = [model | {"name": "left"}, model | {"name": "right", "labels": "./three.txt"}]
    template["classes"] = [0, 1]
    nights.template.write_text(yaml.safe_dump(template))
    nights.save("left/step_1.safetensors", seed=1)
    nights.save("right/step_1.safetensors", seed=2)
    summary = nights.night(code=3)
    assert [(one["source"], one["end"]) for one in summary["checkpoints"]] == [("left", "done"), ("right", "blocked")]
    assert "the template does not fit its network" in summary["checkpoints"][1]["reason"]
    assert not nights.listing.broken
    template["models"][1] = model | {"name": "right"}
    nights.template.write_text(yaml.safe_dump(template))
    assert [(one["source"], one["end"]) for one in nights.night()["checkpoints"]] == [("right", "done")]


def test_an_index_of_several_files_in_a_bucket_is_told_as_nothing_that_will_pass(bucket_nights: Nights) -> None:
    bucket_nights.save("step_1/model.safetensors.index.json", data=b"{}")
    bucket_nights.save("step_2.safetensors", seed=2)
    summary = bucket_nights.night(code=3)
    assert ends(summary) == {"step_2.safetensors": "done"}
    (passed,) = summary["passed"]
    assert passed["uri"].endswith("step_1/model.safetensors.index.json")
    assert "copy them to a folder" in passed["reason"]
    assert passed["reason"] in (bucket_nights.store.read(summary["summary"]) or b"").decode()


@pytest.mark.parametrize(("passing", "end", "code"), [(False, "blocked", 3), (True, "unreachable", 4)])
def test_a_checkpoint_that_is_there_and_cannot_be_read_is_told_once_and_stops_no_other(
    bucket_nights: Nights, monkeypatch: pytest.MonkeyPatch, passing: bool, end: str, code: int
) -> None:
    from classmodels.nights.checkpoint import Elsewhere

    bucket_nights.save("step_1.safetensors", seed=1)
    bucket_nights.save("step_2.safetensors", seed=2)
    real = Elsewhere.open

    def refused(elsewhere: Elsewhere, name: str, most: int | None = None) -> Any:
        if "step_2" in name:
            raise StoreError(f"cannot read {name}: the credentials do not permit it", passing=passing)
        return real(elsewhere, name, most)

    with monkeypatch.context() as patched:
        patched.setattr(Elsewhere, "open", refused)
        summary = bucket_nights.night(code=code)
        assert ends(summary) == {"step_2.safetensors": end, "step_1.safetensors": "done"}
        assert "do not permit it" in (bucket_nights.store.read(summary["summary"]) or b"").decode()
        assert "summary" not in bucket_nights.night(code=code)
    assert ends(bucket_nights.night()) == {"step_2.safetensors": "done"}


def test_a_judge_that_failed_in_passing_keeps_the_checkpoint_open(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.save("step_1.safetensors", seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(verdicts, "load", lambda _: (_ for _ in ()).throw(FetchError("no weights just now")))
        summary = nights.night(code=3)
    assert ends(summary) == {"step_1.safetensors": "incomplete"}
    assert "could not be asked" in summary["checkpoints"][0]["reason"]
    assert nights.listing.is_empty
    assert ends(nights.night()) == {"step_1.safetensors": "done"}
    assert nights.run().out == "nothing new\n"


def test_a_neighbour_that_failed_in_passing_to_judge_is_asked_again(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        nights.save(f"step_{step}.safetensors", seed=step)
        nights.night("--max-new", "1")
    nights.save("step_3.safetensors", seed=3)
    real = verdicts.load
    two = in_order(nights.entries)[-1].model12

    def load(model: Any) -> Any:
        if model.model12 == two:
            raise FetchError("no weights just now")
        return real(model)

    with monkeypatch.context() as patched:
        patched.setattr(verdicts, "load", load)
        summary = nights.night(code=3)
    assert [one["reason"] for one in summary["failed"]] == ["no weights just now"]
    older, newer = in_order(nights.entries)[-2:]
    crossed = f"verdicts/{older.source}@{older.model12}/{newer.source}@{newer.model12}/"
    assert not list(nights.store.list(crossed))
    assert nights.run().code == 0
    assert len(list(nights.store.list(crossed))) == 2
    key = f"{compare_prefix(JOB, older.source, older.model12, newer.model12, newer.recipe)}changes.json"
    assert json.loads(nights.store.read(key) or b"")["in_space"] == 2


def test_what_was_written_a_moment_ago_waits_and_what_has_a_marker_does_not(nights: Nights) -> None:
    nights.save("step_1.safetensors", seed=1, old=0)
    assert nights.run("--settled", "10m").out == "nothing new; 1 are not whole yet\n"
    assert nights.run("--ready", ".done").out == "nothing new; 1 are not whole yet\n"
    nights.save("step_1.safetensors.done", data=b"")
    assert ends(nights.night("--ready", ".done")) == {"step_1.safetensors": "done"}


def test_nothing_is_written_where_nothing_is_done(nights: Nights) -> None:
    nights.save("step_1.safetensors", old=0)
    assert nights.run("--settled", "10m").code == 0
    assert not Path(nights.output).exists()


def test_a_checkpoint_that_vanishes_after_the_listing_is_told_and_not_called_broken(
    anywhere: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmodels.nights import checkpoint

    anywhere.save("step_1.safetensors", seed=1)
    gone = anywhere.save("step_2.safetensors", seed=2)
    real = checkpoint.Doing._learn

    def learn(doing: Any, found: Any) -> str:
        if found.uri == gone:
            anywhere.remove("step_2.safetensors")
        return real(doing, found)

    monkeypatch.setattr(checkpoint.Doing, "_learn", learn)
    summary = anywhere.night()
    assert ends(summary) == {"step_2.safetensors": "later", "step_1.safetensors": "done"}
    assert re.search("does not exist|No such file", summary["checkpoints"][0]["reason"])
    assert not anywhere.listing.broken


def test_a_checkpoint_that_is_rewritten_while_it_is_read_is_done_the_next_night(
    anywhere: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmodels.nights import checkpoint

    anywhere.save("step_1.safetensors", data=b"not yet")
    real = checkpoint.load

    def load(model: Any) -> Any:
        anywhere.save("step_1.safetensors", seed=1, old=1800)
        return real(model)

    monkeypatch.setattr(checkpoint, "load", load)
    summary = anywhere.night()
    assert ends(summary) == {"step_1.safetensors": "later"}
    assert not anywhere.listing.broken
    monkeypatch.setattr(checkpoint, "load", real)
    assert ends(anywhere.night()) == {"step_1.safetensors": "done"}


def test_units_that_fail_for_good_are_in_the_entry_and_not_tried_again(nights: Nights) -> None:
    template = yaml.safe_load(nights.template.read_text())
    template["models"][0]["source"] = {"factory": "nets:broken", "args": [2]}
    nights.template.write_text(yaml.safe_dump(template))
    nights.prefix = "inner."
    nights.save("step_1.safetensors", seed=1)
    summary = nights.night(code=3)
    assert ends(summary) == {"step_1.safetensors": "done"}
    (entry,) = nights.entries
    assert [(one.class_index, "not finite" in one.reason) for one in entry.failed] == [(2, True)]
    assert nights.run().out == "nothing new\n"


def test_units_that_fail_in_passing_keep_the_checkpoint_open(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.save("step_1.safetensors", seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(
            "classmodels.run.units.choose", lambda *_: (_ for _ in ()).throw(RuntimeError("lost the device"))
        )
        summary = nights.night(code=3)
    assert ends(summary) == {"step_1.safetensors": "incomplete"}
    assert nights.listing.is_empty
    assert ends(nights.night()) == {"step_1.safetensors": "done"}


def test_a_night_that_was_killed_between_the_units_and_the_entry_is_completed_without_computing(nights: Nights) -> None:
    nights.save("step_1.safetensors", seed=1)
    nights.save("step_2.safetensors", seed=2)
    nights.night()
    whole = left(nights.store)
    for key in nights.listing.entries:
        nights.store.delete(key)
    summary = nights.night()
    assert [(one["end"], one["made"]) for one in summary["checkpoints"]] == [("done", 0), ("done", 0)]
    assert left(nights.store) == whole


def test_pages_that_a_kill_prevented_are_made_the_next_night(nights: Nights) -> None:
    nights.save("step_1.safetensors", seed=1)
    nights.save("step_2.safetensors", seed=2)
    nights.night()
    whole = left(nights.store)
    older, newer = in_order(nights.entries)
    crossed = f"verdicts/{older.source}@{older.model12}/{newer.source}@{newer.model12}/"
    for key in (f"nights/{JOB}/pages.json", *nights.store.list(crossed)):
        nights.store.delete(key)
    assert nights.night()["checkpoints"][0]["made"] == 0
    assert left(nights.store) == whole


def test_a_new_version_of_the_algorithm_bridges_one_old_checkpoint(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.save("step_1.safetensors", seed=1)
    nights.save("step_2.safetensors", seed=2)
    nights.night()
    for module in ("job.identity", "nights.night", "nights.entries"):
        monkeypatch.setattr(f"classmodels.{module}.ALGORITHM", 2)
    nights.save("step_3.safetensors", seed=3)
    summary = nights.night()
    assert [(one["step"], one["why"], one["made"]) for one in summary["checkpoints"]] == [
        (3, "new", 2),
        (2, "bridge", 2),
    ]
    assert sorted((one.step, one.algorithm) for one in nights.entries) == [(1, 1), (2, 1), (2, 2), (3, 2)]
    assert nights.run().out == "nothing new\n"
    assert [one["step"] for one in nights.night("--refresh")["checkpoints"]] == [3, 2, 1]
    assert sorted((one.step, one.algorithm) for one in nights.entries) == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)]


def test_sidecars_say_which_model_and_a_wrong_one_is_told_and_stops_no_other(nights: Nights) -> None:
    nights.save("a.safetensors", seed=1)
    nights.sidecar("a.safetensors", model="tiny", step=7, time="2026-01-31T02:00:00Z", tags=["best"])
    nights.save("b.safetensors", seed=2)
    nights.sidecar("b.safetensors", model="os:system")
    ended = nights.run()
    assert ended.code == 3
    assert "b.safetensors: its sidecar cannot be used: model" in ended.err
    (entry,) = nights.entries
    assert (entry.step, entry.tags) == (7, ("best",))
    # A person mends it: the checkpoint itself was never to blame.
    nights.sidecar("b.safetensors", model="tiny")
    assert ends(nights.night()) == {"b.safetensors": "done"}


def test_what_a_sidecar_says_later_reaches_index_and_pages_and_costs_nothing_the_night_after(nights: Nights) -> None:
    for step in (1, 2):
        nights.save(f"step_{step}.safetensors", seed=step)
    nights.night()
    nights.sidecar("step_1.safetensors", step=7, tags=["paper"])
    assert nights.run().code == 0
    assert [(one.step, one.tags) for one in in_order(nights.entries)] == [(2, ()), (7, ("paper",))]
    page = (nights.store.read(f"nights/{JOB}/timeline/tiny/index.html") or b"").decode()
    assert "paper" in page
    assert "step 7" in page
    before = left(nights.store)
    assert nights.run().out == "nothing new\n"
    assert left(nights.store) == before


def test_a_sidecar_is_looked_at_for_its_size_before_it_is_read(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.save("a.safetensors", seed=1)
    Path(nights.checkpoints, "a.safetensors.json").write_bytes(b" " * 100_000)
    read = FolderStore.read

    def reading(store: FolderStore, key: str) -> bytes | None:
        assert not key.endswith("safetensors.json")
        return read(store, key)

    monkeypatch.setattr(FolderStore, "read", reading)
    ended = nights.run()
    assert ended.code == 3
    assert "its sidecar has 100000 bytes, expected at most 65536" in ended.err


def test_a_checkpoint_of_two_networks_template_goes_to_the_one_it_names(nights: Nights) -> None:
    template = yaml.safe_load(nights.template.read_text())
    model = template["models"][0]
    template["models"] = [model | {"name": "left"}, model | {"name": "right"}]
    nights.template.write_text(yaml.safe_dump(template))
    nights.save("left/step_1.safetensors", seed=1)
    nights.save("right/step_1.safetensors", seed=2)
    nights.save("step_1.safetensors", seed=3)
    ended = nights.run()
    assert ended.code == 3
    assert "nothing tells which of left, right it is of" in ended.err
    assert sorted(one.source for one in nights.entries) == ["left", "right"]


def test_a_template_whose_model_has_a_checkpoint_is_refused_at_its_place(nights: Nights) -> None:
    lines = nights.template.read_text().splitlines()
    at = lines.index("- name: tiny")
    lines.insert(at + 1, "  checkpoint: ./tiny.safetensors")
    nights.template.write_text("\n".join(lines))
    ended = nights.run()
    assert ended.code == 2
    assert f"job.yaml:{at + 2}:15: found a checkpoint, expected none" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--settled", "soon"), "--settled 'soon': expected a number of"),
        (("--since", "soon"), "--since 'soon': expected a date"),
        (("--pattern", "("), "no regular expression"),
        (("--webhook", "ftp://x"), "expected https://host/path"),
        (("--webhook", "https://user:secret@host/"), "without a user name"),
    ],
)
def test_wrong_arguments_are_said_with_exit_code_2(nights: Nights, options: tuple[str, ...], said: str) -> None:
    Path(nights.checkpoints).mkdir()
    ended = nights.run(*options)
    assert ended.code == 2
    assert said in ended.err
    assert "secret" not in ended.err


def test_a_folder_of_checkpoints_that_is_not_there_is_a_slip(nights: Nights) -> None:
    ended = nights.run()
    assert ended.code == 2
    assert "found no such folder" in ended.err


def test_a_store_that_is_not_reached_ends_with_exit_code_4(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(nights.checkpoints).mkdir()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    nights.output = "s3://galleries/out"
    assert nights.run().code == 4


def test_the_plan_of_a_template_tells_what_each_checkpoint_costs(nights: Nights) -> None:
    told = json.loads(nights.command("plan", nights.template, "--estimate", "--json", "--output", nights.output).out)
    (each,) = told["each_checkpoint"]
    assert (each["model"], each["units"], each["device_hours"]) == ("tiny", 4, None)
    nights.save("step_1.safetensors", seed=1)
    nights.save("step_2.safetensors", seed=2)
    nights.night()
    said = nights.command("plan", nights.template, "--estimate", "--output", nights.output).out.splitlines()[-1]
    assert said.startswith(f"as a template of `nightly`, each checkpoint of tiny: 4 units, {each['objects']} objects")
    assert "unknown" not in said
    made = [*nights.store.list("units/"), *nights.store.list("verdicts/")]
    newest = in_order(nights.entries)[-1].model12
    assert each["objects"] == sum(f"tiny@{newest}/" in key for key in made)


def test_a_dry_run_tells_the_cost_and_writes_nothing(nights: Nights) -> None:
    nights.save("step_1.safetensors", seed=1)
    first = nights.run("--dry-run")
    assert first.out.splitlines()[0].endswith(
        "step_1.safetensors  4 units; device-hours unknown: nothing was timed yet"
    )
    assert not Path(nights.output).exists()
    nights.night()
    nights.save("step_2.safetensors", seed=2)
    (row,) = json.loads(nights.run("--dry-run", "--json").out)["checkpoints"]
    assert (row["step"], row["units"], row["why"]) == (2, 4, "new")
    assert 0 < row["device_hours"] < 1
