"""A run that was interrupted goes on from its saved state, and gives the bytes of one that never was."""

from collections.abc import Callable
from typing import Any

import pytest

from classmodels.ascent.loop import Ascent
from classmodels.job.check import load_job
from classmodels.job.plan import expand_plan
from classmodels.run import numerics
from classmodels.run.state import decode
from classmodels.store.folder import FolderStore
from interrupted import BATCHES, RECIPES, STEPS, Work

Command = Callable[..., Any]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stop_after", [1, 3, 5, STEPS + 2])
def test_an_interrupted_run_goes_on_where_it_was_and_gives_the_same_bytes(
    work: Work, recipe: str, stop_after: int
) -> None:
    work.use(recipe)
    assert work.run("undisturbed").code == 0
    ended = work.run(stop_after=stop_after)
    assert (ended.code, work.steps) == (130, stop_after)
    assert len(work.states) == 1
    ended = work.run()
    assert (ended.code, work.steps) == (0, BATCHES * STEPS - stop_after)
    done_in_batch = (stop_after - 1) % STEPS + 1
    assert f"units go on after step {done_in_batch}\n" in ended.err
    assert work.tree() == work.tree("undisturbed")


def test_a_run_that_is_interrupted_at_every_step_gets_done(work: Work) -> None:
    assert work.run("undisturbed").code == 0
    codes = [work.run(stop_after=1).code for _ in range(BATCHES * STEPS)]
    assert codes == [130] * (BATCHES * STEPS)
    assert work.run().code == 0
    assert work.steps == 0
    assert work.tree() == work.tree("undisturbed")


def test_a_saved_state_says_whose_it_is_and_is_no_more_than_its_batch(interrupted: Work) -> None:
    state = decode(interrupted.state.read_bytes())
    units = expand_plan(load_job(interrupted.job)).units
    assert state.units == tuple(unit.identity for unit in units[: len(state.units)])
    assert state.done == 3
    assert state.tensors["x"].shape == (4, 3, 8, 8)
    assert sorted(state.film) == [0, 2]
    prefix = units[0].task.prefix.removeprefix("units/")
    assert str(interrupted.state.parent).endswith(f"/state/{prefix}".rstrip("/"))
    assert interrupted.state.name.startswith("0000-0003.")


def test_an_interrupt_saves_what_is_under_way_and_publishes_what_is_done(work: Work) -> None:
    ended = work.run(stop_after=STEPS + 2)
    assert ended.code == 130
    assert "interrupted: 4 units are done and kept, 1 are left" in ended.err
    assert len(list((work.folder / "out").glob("units/*/*/*.json"))) == 4
    assert decode(work.state.read_bytes()).units[0].endswith("/4")


# Other numerics, other batches


def test_other_numerics_start_over_and_leave_no_state(interrupted: Work, caplog: pytest.LogCaptureFixture) -> None:
    with interrupted.monkeypatch.context() as patched:
        patched.setitem(numerics.LARGEST_BATCH, "cpu", 2)
        ended = interrupted.run()
        assert (ended.code, interrupted.steps) == (0, 3 * STEPS)
    assert "go on" not in ended.err
    assert not caplog.text
    assert not interrupted.states


def test_workers_of_different_numerics_keep_states_of_their_own(interrupted: Work) -> None:
    with interrupted.monkeypatch.context() as patched:
        patched.setitem(numerics.LARGEST_BATCH, "cpu", 2)
        assert interrupted.run(stop_after=STEPS + 1).code == 130
        assert len(interrupted.states) == 2
    ended = interrupted.run()
    assert ended.code == 0
    # Classes 2 to 4 are left: two of them are in the older state, of four, whose numerics are those of this run.
    assert "2 units go on after step 3\n" in ended.err
    assert interrupted.steps == BATCHES * STEPS - 3
    assert not interrupted.states


def test_only_some_of_a_batch_go_on_and_the_others_keep_their_state(interrupted: Work) -> None:
    assert interrupted.run("undisturbed").code == 0
    job, output = interrupted.job, interrupted.folder / "out"
    ended = interrupted.command("run", job, "--output", output, "--only", "*/*/crow", "--only", "*/*/eel")
    assert ended.code == 0
    assert "1 units go on after step 3\n" in ended.err
    assert len(interrupted.states) == 1
    ended = interrupted.run()
    assert "3 units go on after step 3\n" in ended.err
    assert interrupted.tree() == interrupted.tree("undisturbed")


def test_a_unit_that_cannot_be_done_leaves_no_state(work: Work, tiny_data: Callable[[], dict[str, Any]]) -> None:
    model = tiny_data()["models"][0] | {"source": {"factory": "nets:broken"}}
    del model["checkpoint"]
    work.job = work.write_job(work.folder, models=[model], classes="all")
    assert work.run(stop_after=2).code == 130
    assert len(work.states) == 1
    ended = work.command("run", work.job, "--only", "*/*/0", "--only", "*/*/bee")
    assert ended.code == 3
    assert len(work.states) == 1
    assert work.run().code == 3
    assert not work.states


def test_a_network_that_breaks_down_under_way_goes_on_from_its_state_the_next_time(work: Work) -> None:
    assert work.run("undisturbed").code == 0
    real = Ascent.finish
    with work.monkeypatch.context() as patched:
        patched.setattr(Ascent, "finish", lambda ascent: [][0])
        assert work.run(interval=0).code == 3
    assert Ascent.finish is real
    assert len(work.states) == 1
    ended = work.run()
    assert ended.code == 0
    assert "4 units go on after step " in ended.err
    assert work.steps < BATCHES * STEPS
    assert work.tree() == work.tree("undisturbed")


def test_a_film_of_other_frames_starts_over(interrupted: Work, caplog: pytest.LogCaptureFixture) -> None:
    ended = interrupted.command(
        "run", interrupted.job, "--output", interrupted.folder / "out", "--set", "animation.frames=6"
    )
    assert ended.code == 0
    assert "it has no frame of step 1" in caplog.text
    assert not interrupted.states


def test_what_is_left_of_finished_batches_is_deleted_by_the_next_run(interrupted: Work) -> None:
    state, data = interrupted.state, interrupted.state.read_bytes()
    assert interrupted.run().code == 0
    state.write_bytes(data)
    ended = interrupted.run()
    assert ended.code == 0
    assert ended.out.startswith("nothing to do")
    assert not interrupted.states


def test_the_environment_may_say_how_often_the_state_is_saved(
    work: Work, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSMODELS_STATE_INTERVAL", "often")
    ended = run_command("run", work.job)
    assert ended.code == 2
    assert "'often' is not a valid float" in ended.err
    written = []
    real = FolderStore.write
    monkeypatch.setattr(FolderStore, "write", lambda store, key, data: (written.append(key), real(store, key, data)))
    monkeypatch.setenv("CLASSMODELS_STATE_INTERVAL", "1000")
    assert run_command("run", work.job).code == 0
    assert not [key for key in written if key.startswith("state/")]
    monkeypatch.setenv("CLASSMODELS_STATE_INTERVAL", "0")
    assert run_command("run", work.job, "--set", "seed=1").code == 0
    assert [key for key in written if key.startswith("state/")]
