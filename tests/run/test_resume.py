"""A run that was interrupted goes on from its saved state, and gives the bytes of one that never was."""

import dataclasses
import json
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmodels.ascent.loop import Ascent
from classmodels.job.check import load_job
from classmodels.job.plan import expand_plan
from classmodels.run import numerics
from classmodels.run.state import Name, State, decode, encode
from classmodels.store import open_store
from kills import tree

Command = Callable[..., Any]

STEPS = 5
UNITS = 5
BATCHES = 2
RECIPES = {
    "momentum": {"extends": "plain", "optimizer": {"momentum": 0.9, "schedule": "cosine"}},
    "adam": {"extends": "plain", "optimizer": {"kind": "adam", "lr": 0.1}},
    "tv": {"extends": "l2", "regularizers": {"tv": 0.05}},
    "transforms": {"extends": "natural", "preconditioner": {"spectral": [0.5, 1.5]}},
    "filters": {
        "extends": "yosinski",
        "regularizers": {"blur": {"every": 2}, "small_contribution": {"percentile": 20, "every": 2}},
    },
}


class Work:
    """A job of two batches, and the runs of it; each counts the steps that it takes."""

    def __init__(self, folder: Path, write_job: Callable[..., Path], command: Command, mp: pytest.MonkeyPatch) -> None:
        self.folder, self.write_job, self.command, self.monkeypatch = folder, write_job, command, mp
        self.steps = 0
        self.use("transforms")

    def use(self, recipe: str) -> None:
        settings = {"name": recipe, "steps": STEPS, "precision": "fp32"} | RECIPES[recipe]
        animation = {"frames": 4, "format": "webp"}
        self.job = self.write_job(self.folder, classes="all", recipes=[settings], animation=animation)

    def run(self, output: str = "out", stop_after: int | None = None, interval: float = 1000) -> Any:
        """Run the job; stop_after: with an interrupt in the middle of that step."""
        self.steps = 0
        real = Ascent.step

        def step(ascent: Ascent) -> None:
            self.steps += 1
            if self.steps == stop_after:
                os.kill(os.getpid(), signal.SIGINT)
            real(ascent)

        with self.monkeypatch.context() as patched:
            patched.setattr(Ascent, "step", step)
            return self.command("run", self.job, "--output", self.folder / output, "--state-interval", interval)

    def tree(self, output: str = "out") -> dict[str, Any]:
        return tree(open_store(str(self.folder / output)))

    @property
    def states(self) -> list[Path]:
        return sorted((self.folder / "out" / "state").rglob("*.safetensors"))

    @property
    def state(self) -> Path:
        (path,) = self.states
        return path


@pytest.fixture
def work(tmp_path: Path, write_job: Callable[..., Path], run_command: Command, monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(tmp_path, write_job, run_command, monkeypatch)


@pytest.fixture
def interrupted(work: Work) -> Work:
    """Stopped in the third step of its first batch."""
    assert work.run(stop_after=3).code == 130
    return work


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


# What no run has saved


def flipped(data: bytes) -> bytes:
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


class Opened:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def header(value: object, length: int | None = None) -> bytes:
    text = json.dumps(value).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "one bit": flipped,
    "another step": lambda data: data.replace(b'\\"done\\":3', b'\\"done\\":4'),
    "a pickle": lambda data: pickle.dumps(Opened(Path("/tmp/never"))),
    "an endless header": lambda data: header({}, length=2**62),
    "a deep header": lambda data: (5 * 20_000).to_bytes(8, "little") + b'{"a":' * 20_000,
    "no metadata": lambda data: header({}),
    "metadata of others": lambda data: header({"__metadata__": {"format": "pt"}}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_state_is_ignored_with_a_warning(
    interrupted: Work, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = tmp_path / "opened"
    interrupted_name = interrupted.state.name
    data = DAMAGED[damage](interrupted.state.read_bytes()).replace(b"/tmp/never", str(opened).encode())
    interrupted.state.write_bytes(data)
    assert interrupted.run().code == 0
    assert interrupted.steps == BATCHES * STEPS
    assert f"{interrupted_name} is ignored: it" in caplog.text
    assert not opened.exists()
    assert not interrupted.states


def changed(**tensors: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[State], State]:
    """A state with other tensors; None leaves one out."""

    def change(state: State) -> State:
        found = {name: tensors.get(name, lambda values: values)(values) for name, values in state.tensors.items()}
        return dataclasses.replace(state, tensors={name: v for name, v in found.items() if v is not None})

    return change


FOREIGN: dict[str, Callable[[State], State]] = {
    "of other units": lambda state: dataclasses.replace(state, units=("a", "b", "c", "d")),
    "of other numerics": lambda state: dataclasses.replace(state, numerics=state.numerics | {"threads": 99}),
    "of more steps than there are": lambda state: dataclasses.replace(state, done=STEPS + 1),
    "of a step whose frames it has not": lambda state: dataclasses.replace(state, done=4),
    "with frames of another size": lambda state: dataclasses.replace(
        state, film={step: pixels[:, :4] for step, pixels in state.film.items()}
    ),
    "without an optimizer": changed(m=lambda values: None),
    "of other images": changed(x=lambda values: values[..., :4]),
    "of doubles": changed(x=lambda values: values.astype(np.float64)),
    "of numbers that torch does not have": changed(x=lambda values: values.astype(np.complex64)),
    "with fewer rows": changed(x=lambda values: values[:2]),
    "with a number for a row": changed(failed=lambda values: values[0]),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_state_is_ignored_with_a_warning(
    interrupted: Work, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted.state.write_bytes(encode(FOREIGN[kind](decode(interrupted.state.read_bytes()))))
    assert interrupted.run("undisturbed").code == 0
    assert not caplog.text
    assert interrupted.run().code == 0
    assert interrupted.steps == BATCHES * STEPS
    assert "saved state" in caplog.text
    assert "is ignored: " in caplog.text
    assert interrupted.tree() == interrupted.tree("undisturbed")


def test_what_lies_among_the_states_under_another_name_is_left_alone(interrupted: Work) -> None:
    note = interrupted.state.with_name("note.txt")
    note.write_text("mine\n")
    assert interrupted.run().code == 0
    assert note.read_text() == "mine\n"
    assert not interrupted.states


def test_the_name_of_a_state_is_the_same_in_any_order_and_tells_its_range() -> None:
    name = Name.of([3, 10, 7], ["b", "a"], {"threads": 1})
    assert str(name).startswith("0003-0010.")
    assert name == Name.of([10, 7, 3], ["a", "b"], {"threads": 1})
    assert Name.parse(f"state/m@1/r@2/{name}") == name
    assert name.numerics12 != Name.of([3, 10], ["a", "b"], {"threads": 2}).numerics12


def test_what_cannot_be_saved_is_a_warning_and_no_error(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    (work.folder / "out").mkdir()
    (work.folder / "out" / "state").write_text("a file where a folder is expected\n")
    ended = work.run(interval=0)
    assert (ended.code, work.steps) == (0, BATCHES * STEPS)
    assert "the state of the batch under way is not saved" in caplog.text
    assert len(list((work.folder / "out").glob("units/*/*/*.json"))) == UNITS
