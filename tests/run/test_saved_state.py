"""A saved state is data that others may have written: what is damaged or foreign is ignored, and nothing of it runs."""

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmodels.errors import DamagedError, StoreError
from classmodels.run.state import Name, State, decode, encode
from classmodels.store.folder import FolderStore
from interrupted import BATCHES, STEPS, UNITS, Work


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


@pytest.mark.parametrize(
    ("error", "said", "left"),
    [
        (DamagedError("cannot read it: its bytes are not those that were written"), "is ignored: cannot read it", 0),
        (StoreError("cannot read it: the server is down"), "is passed over: cannot read it", 1),
    ],
    ids=["damaged for good", "for a while"],
)
def test_a_state_that_cannot_be_read_is_a_warning_and_deleted_only_if_it_never_can(
    interrupted: Work,
    error: StoreError,
    said: str,
    left: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = FolderStore.read

    def read(store: FolderStore, key: str) -> bytes | None:
        if key.startswith("state/"):
            raise error
        return real(store, key)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "read", read)
        assert interrupted.run().code == 0
    assert interrupted.steps == BATCHES * STEPS
    assert said in caplog.text
    assert len(interrupted.states) == left
    assert interrupted.run().code == 0
    assert not interrupted.states


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
