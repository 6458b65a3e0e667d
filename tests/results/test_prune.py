"""Deleting by age and count: what goes, what must stay, what is left to tell of it, and what a kill half-way does."""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from places import copy, verified

from classmodels.errors import InputError, StoreError
from classmodels.results import prune as pruning
from classmodels.results.place import open_place
from classmodels.results.prune import Doomed, carry_out, choose
from classmodels.store import Store, open_store
from classmodels.store.records import RunPlan, Tombstone, dump, parse, plan_key, tombstone_key

Command = Callable[..., Any]


@pytest.fixture(scope="session")
def four_runs(tmp_path_factory: pytest.TempPathFactory, write_job: Callable[..., Path]) -> Path:
    """Three runs of a job, which share units, and one of another job."""
    from classmodels import cli

    folder = tmp_path_factory.mktemp("four")
    jobs = [("tiny", ["ant", "bee"]), ("tiny", ["bee", "crow"]), ("tiny", ["dog"]), ("other", ["ant"])]
    for name, classes in jobs:
        job = write_job(folder, name=name, classes=classes, panel="all")
        with pytest.raises(SystemExit, match="0"):
            cli.cli.main(["run", str(job)], standalone_mode=False)
    return folder / "out"


@pytest.fixture(params=["folder", "bucket"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, four_runs: Path) -> Store:
    """A copy of the four runs, begun in the order in which they were made; in a folder, and in a bucket."""
    if request.param == "folder":
        return copied(four_runs, str(tmp_path / "store"))
    return copied(four_runs, request.getfixturevalue("bucket_uri"), apart=1.0)


@pytest.fixture
def in_folder(tmp_path: Path, four_runs: Path) -> Store:
    """As `kept`, in a folder."""
    return copied(four_runs, str(tmp_path / "store"))


def copied(four_runs: Path, uri: str, apart: float = 0.0) -> Store:
    """apart: seconds between the runs of the first job: a bucket's clock knows no fractions."""
    store = open_store(uri)
    copy(open_store(str(four_runs)), store)
    for key in in_order(four_runs)[1:]:
        time.sleep(apart)
        store.write(key, store.read(key) or b"")
    return store


def in_order(four_runs: Path) -> list[str]:
    """The keys of the plans, the first run's first."""
    plans = sorted(four_runs.glob("runs/*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    return [path.relative_to(four_runs).as_posix() for path in plans]


def run12s(four_runs: Path) -> list[str]:
    return [key.split("/")[1] for key in in_order(four_runs)]


def classes(store: Store) -> list[int]:
    return sorted(int(key.rpartition("/")[2][:4]) for key in store.list("units/") if key.endswith(".json"))


def stones(store: Store) -> list[Tombstone]:
    keys = [key for key in store.list("galleries/") if key.endswith("/deleted.json")]
    return [stone for key in keys if (stone := parse(Tombstone, store.read(key) or b"")) is not None]


def in_days(store: Store, days: int, older_than: str | None, keep_last: int | None, inside: str = "") -> Doomed:
    """What is chosen so many days from now."""
    now = datetime.now(UTC) + timedelta(days=days)
    return choose(open_place(store.uri + inside), older_than, keep_last, now)


def test_the_last_ones_of_each_job_stay_and_the_units_they_share(kept: Store, four_runs: Path) -> None:
    first, second, third, other = run12s(four_runs)
    doomed = in_days(kept, 0, None, 2)
    assert [one.plan.run12 for one in doomed.galleries] == [first]
    assert doomed.shared == 2  # ant is in the other job's gallery, bee in the second
    carry_out(doomed)
    assert classes(kept) == [0, 1, 2, 3]
    carry_out(in_days(kept, 0, None, 1))
    assert classes(kept) == [0, 3]
    assert {key.split("/")[1] for key in kept.list("runs/")} == {third, other}
    assert json.loads(kept.read("galleries/tiny/latest.json") or b"")["run12"] == third
    looked = verified(kept.uri)
    assert (looked.differences, looked.unfinished) == ([], 0)
    assert not [key for key in kept.list("verdicts/") if "/0001." in key or "/0002." in key]
    assert {stone.run12 for stone in stones(kept)} == {first, second}


@pytest.mark.parametrize(
    ("days", "older_than", "keep_last", "goes"),
    [
        (31, "30d", None, 2),
        (29, "30d", None, 0),
        (31, "30d", 0, 4),
        (31, "30d", 2, 1),
        (0, None, 0, 4),
        (0, None, 5, 0),
        (15, "2w", None, 2),
        (1, "12h", None, 2),
    ],
)
def test_age_and_count(in_folder: Store, days: int, older_than: str | None, keep_last: int | None, goes: int) -> None:
    doomed = in_days(in_folder, days, older_than, keep_last)
    assert (len(doomed.galleries), len(doomed.kept)) == (goes, 4 - goes)


def unfinished(store: Store, run12: str) -> None:
    """As if the run had not come to its page yet, and the last one had been that of another."""
    for key in store.list(f"galleries/tiny/{run12}/"):
        store.delete(key)


@pytest.mark.parametrize(("older_than", "keep_last"), [(None, 1), (None, 0), ("1h", None)])
def test_a_run_in_progress_stays_and_is_not_counted(
    kept: Store, four_runs: Path, older_than: str | None, keep_last: int | None
) -> None:
    _, _, third, _ = run12s(four_runs)
    unfinished(kept, third)
    doomed = in_days(kept, 0, older_than, keep_last)
    assert third in [one.plan.run12 for one in doomed.kept]
    if keep_last:  # and the last finished one stays beside it
        assert {one.plan.run12 for one in doomed.kept if one.plan.job == "tiny"} == set(run12s(four_runs)[1:3])


def test_a_run_that_was_given_up_goes_like_others(in_folder: Store, four_runs: Path) -> None:
    first, *_ = run12s(four_runs)
    unfinished(in_folder, first)
    assert [one.plan.run12 for one in in_days(in_folder, 2, None, 2).galleries] == [first]
    assert first in [one.plan.run12 for one in in_days(in_folder, 2, "30d", None).kept]


def touched(store: Store, key: str, days: int) -> None:
    """Have `key` be written in so many days."""
    then = time.time() + days * 86400
    os.utime(Path(store.uri) / key, (then, then))


def test_age_counts_from_what_was_written_last(in_folder: Store, four_runs: Path) -> None:
    first, *_ = run12s(four_runs)
    assert first in [one.plan.run12 for one in in_days(in_folder, 31, "30d", None).galleries]
    touched(in_folder, f"galleries/tiny/{first}/index.html", 10)  # a page may be made again at any time
    assert first in [one.plan.run12 for one in in_days(in_folder, 31, "30d", None).galleries]
    record = next(key for key in in_folder.list("units/") if key.endswith("/0000.json"))
    touched(in_folder, record, 10)
    assert first in [one.plan.run12 for one in in_days(in_folder, 31, "30d", None).kept]


def test_a_saved_state_shows_that_a_run_goes_on(in_folder: Store, four_runs: Path) -> None:
    first, *_ = run12s(four_runs)
    unfinished(in_folder, first)
    record = next(key for key in in_folder.list("units/") if key.endswith("/0000.json"))
    state = record.replace("units/", "state/").replace("0000.json", "0000-0001.x.safetensors")
    in_folder.write(state, b"")
    touched(in_folder, state, 30)
    assert first in [one.plan.run12 for one in in_days(in_folder, 30, None, 0).kept]


def test_units_of_a_run_that_begins_before_the_deletion_stay(kept: Store, four_runs: Path) -> None:
    first, *_ = run12s(four_runs)
    plan = parse(RunPlan, kept.read(plan_key(first)) or b"")
    assert plan is not None
    doomed = in_days(kept, 0, None, 0)
    kept.write(plan_key("abcdefabcdef"), dump(plan.model_copy(update={"run12": "abcdefabcdef"})))
    assert carry_out(doomed) == []
    assert classes(kept) == [0, 1]
    assert verified(kept.uri).unfinished == 0
    assert [len(stone.left) for stone in stones(kept)] == [0] * 4


def test_a_run_that_begins_during_the_deletion_is_named(
    in_folder: Store, four_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = run12s(four_runs)
    plan = in_folder.read(plan_key(first)) or b""
    doomed = in_days(in_folder, 0, None, 0)
    really = type(in_folder).delete

    def delete(self: Any, key: str) -> None:
        if key.startswith("units/"):
            self.write(plan_key(first), plan)
        really(self, key)

    monkeypatch.setattr(type(in_folder), "delete", delete)
    assert carry_out(doomed) == ["tiny"]


def test_a_path_inside_prunes_that_job_alone(in_folder: Store) -> None:
    doomed = in_days(in_folder, 0, None, 0, "/galleries/other")
    assert [one.plan.job for one in doomed.galleries] == ["other"]
    carry_out(doomed)
    assert classes(in_folder) == [0, 1, 2, 3]
    assert in_folder.read("galleries/other/latest.json") is None


def test_the_pointer_moves_to_what_stays(kept: Store, four_runs: Path) -> None:
    _, second, third, _ = run12s(four_runs)
    carry_out(in_days(kept, 0, None, 0, f"/galleries/tiny/{third}"))
    assert json.loads(kept.read("galleries/tiny/latest.json") or b"")["run12"] == second
    assert verified(kept.uri).differences == []


def test_one_listing_tells_deleted_on_purpose_from_never_made(kept: Store, four_runs: Path) -> None:
    first, *_ = run12s(four_runs)
    carry_out(in_days(kept, 0, None, 2))
    assert list(kept.list(f"galleries/tiny/{first}/")) == [tombstone_key("tiny", first)]
    (stone,) = stones(kept)
    assert (stone.job, stone.run12, stone.left) == ("tiny", first, ())
    assert [model.split("@")[0] for model in stone.models] == ["tiny"]
    assert abs(stone.deleted - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_job_that_is_run_again_has_its_gallery_again(
    tmp_path: Path, write_job: Callable[..., Path], run_command: Command
) -> None:
    job = write_job(tmp_path)
    page = run_command("run", job).out.splitlines()[-1]
    assert run_command("prune", tmp_path / "out", "--keep-last", "0", "--yes").code == 0
    assert not Path(page).exists()
    assert run_command("run", job).out.startswith("2 units done, 0 were done already")
    assert Path(page).is_file()
    assert verified(tmp_path / "out").differences == []
    assert json.loads(run_command("list", tmp_path / "out", "--json").out)["galleries"][0]["done"] == 2


def cut_off(store: Store, doomed: Doomed, acts: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Carry out so many writes and deletions; whether that was all."""
    left = iter(range(acts))
    with monkeypatch.context() as patch:
        for name in ("write", "delete"):
            really = getattr(type(store), name)

            def act(self: Any, *arguments: Any, really: Any = really) -> None:
                if next(left, None) is None:
                    raise StoreError("killed")
                really(self, *arguments)

            patch.setattr(type(store), name, act)
        try:
            carry_out(doomed)
        except StoreError:
            return False
    return True


def test_a_kill_at_any_moment_breaks_nothing_and_pruning_again_completes_it(
    tmp_path: Path, four_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "THREADS", 1)
    whole = copied(four_runs, str(tmp_path / "whole"))
    carry_out(in_days(whole, 0, None, 1))
    acts, done = 0, False
    while not done:
        store = copied(four_runs, str(tmp_path / f"cut-{acts}"))
        done = cut_off(store, in_days(store, 0, None, 1), acts, monkeypatch)
        # All that anything leads to is still there. A verdict whose image is gone leads nowhere, and goes next time.
        lost = [one for one in verified(store.uri).differences if not one.key.startswith("verdicts/")]
        assert lost == [], acts
        carry_out(in_days(store, 0, None, 1))
        assert in_days(store, 0, None, 1).unfinished == []
        assert list(store.list("")) == list(whole.list("")), acts
        acts += 1
    assert acts > 15


def test_a_run_that_is_begun_again_keeps_what_a_cut_off_pruning_would_have_taken(
    tmp_path: Path, four_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "THREADS", 1)
    store = copied(four_runs, str(tmp_path / "store"))
    plans = {key: store.read(key) or b"" for key in in_order(four_runs)}
    assert not cut_off(store, in_days(store, 0, None, 0), 4 + 2 + 4, monkeypatch)  # tombstones, pointers, plans
    assert len(in_days(store, 0, None, 1).unfinished) == 4
    for key, plan in plans.items():
        store.write(key, plan)
    doomed = in_days(store, 0, None, 5)
    assert (doomed.unfinished, doomed.objects) == ([], {})


def test_a_plan_that_cannot_be_read_stops_everything(in_folder: Store, four_runs: Path) -> None:
    in_folder.write(in_order(four_runs)[0], b"{}")
    with pytest.raises(InputError, match="it cannot be told which units its gallery needs"):
        in_days(in_folder, 0, None, 1)


def test_a_dry_run_says_what_would_go_and_deletes_nothing(kept: Store, run_command: Command) -> None:
    before = list(kept.list(""))
    ended = run_command("prune", kept.uri, "--keep-last", "1", "--dry-run")
    assert ended.code == 0
    assert "2 galleries, 2 units: " in ended.out.splitlines()[-1]
    said = json.loads(run_command("prune", kept.uri, "--keep-last", "1", "--dry-run", "--json").out)
    assert list(kept.list("")) == before
    assert run_command("prune", kept.uri, "--keep-last", "1", "--yes").code == 0
    gone = set(before) - set(kept.list(""))
    assert (said["objects"], len(said["units"]), said["galleries_kept"]) == (len(gone), 2, 2)
    assert run_command("prune", kept.uri, "--keep-last", "1").out == "nothing to delete: 2 galleries stay\n"


def test_nothing_is_deleted_unasked(in_folder: Store, run_command: Command) -> None:
    before = list(in_folder.list(""))
    ended = run_command("prune", in_folder.uri, "--keep-last", "0")
    assert ended.code == 2
    assert "--yes" in ended.err
    assert list(in_folder.list("")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected --older-than AGE, --keep-last N"),
        (["--older-than", "30"], "such as 12h, 30d, 8w"),
        (["--keep-last", "-1"], "-1"),
    ],
)
def test_options_that_say_nothing_are_errors(
    four_runs: Path, run_command: Command, options: list[str], message: str
) -> None:
    ended = run_command("prune", four_runs, *options)
    assert ended.code == 2
    assert message in ended.err
