"""Results are written while the next batch ascends: bounded, patient, and each unit for itself."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import pytest

from classmodels.ascent.loop import Ascent
from classmodels.errors import StoreError
from classmodels.run import numerics, upload
from classmodels.store import patient
from classmodels.store.folder import FolderStore
from faults import FaultProxy, error, passed
from seaweed import SeaweedFS

Command = Callable[..., Any]
Write = Callable[[str], None]

STEPS = 3


@pytest.fixture
def job(tmp_path: Path, write_job: Callable[..., Path]) -> Path:
    """Five units."""
    return write_job(tmp_path, classes="all")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patience that tests have too."""
    monkeypatch.setattr(patient, "PATIENCE", 0.3)
    monkeypatch.setattr(patient, "PAUSES", (0.01, 0.05))


@pytest.fixture
def before_writing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Write], None]:
    """`before_writing(act)` has `act(key)` called before every write, in the thread that writes."""

    def install(act: Write) -> None:
        for name in ("write", "create"):
            real = getattr(FolderStore, name)

            def write(store: FolderStore, key: str, data: bytes, real: Callable[..., Any] = real) -> Any:
                act(key)
                return real(store, key, data)

            monkeypatch.setattr(FolderStore, name, write)

    return install


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of each step that is taken, one batch after the other."""
    taken: list[int] = []
    real = Ascent.step

    def step(ascent: Ascent) -> None:
        real(ascent)
        taken.append(ascent.done)

    monkeypatch.setattr(Ascent, "step", step)
    return taken


def records(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("out/units/*/*/*.json"))


def when(ready: Callable[[], bool], act: Callable[[], object]) -> Thread:
    """Have `act` called, in a thread, a moment after `ready` has come true."""

    def watch() -> None:
        deadline = time.monotonic() + 30
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        act()

    thread = Thread(target=watch)
    thread.start()
    return thread


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def down(key: str) -> StoreError:
    return StoreError(f"cannot write {key}: the server is down", passing=True)


# Failures


def test_an_upload_that_fails_for_a_while_is_tried_again_and_done(
    job: Path, run_command: Command, before_writing: Callable[[Write], None], hurried: None
) -> None:
    tries: dict[str, int] = {}

    def act(key: str) -> None:
        tries[key] = tries.get(key, 0) + 1
        if key.startswith("units/") and tries[key] <= 3:
            raise down(key)

    before_writing(act)
    ended = run_command("run", job)
    assert ended.code == 0
    assert ended.out.startswith("5 units done, 0 were done already, 0 failed")
    assert {count for key, count in tries.items() if key.startswith("units/")} == {4}


def test_an_upload_that_fails_for_ever_fails_its_unit_and_no_other(
    job: Path, tmp_path: Path, run_command: Command, before_writing: Callable[[Write], None], hurried: None
) -> None:
    def act(key: str) -> None:
        if "/0002-crow." in key:
            raise down(key)

    before_writing(act)
    ended = run_command("run", job, "--json")
    report = json.loads(ended.out)
    assert (ended.code, report["done"]) == (3, 4)
    (failure,) = report["failed"]
    assert failure["what"] == "tiny/quick/2 (crow)"
    assert failure["reason"].endswith("the server is down")
    assert records(tmp_path) == ["0000", "0001", "0003", "0004"]


def test_the_unit_that_could_not_be_written_is_done_by_the_next_run(
    job: Path, tmp_path: Path, run_command: Command, before_writing: Callable[[Write], None], hurried: None
) -> None:
    broken = True

    def act(key: str) -> None:
        if broken and key.endswith("/0002.json"):
            raise down(key)

    before_writing(act)
    assert run_command("run", job, "--state-interval", "0").code == 3
    broken = False
    ended = run_command("run", job)
    assert (ended.code, records(tmp_path)) == (0, ["0000", "0001", "0002", "0003", "0004"])
    assert ended.out.startswith("1 units done, 4 were done already, 0 failed")
    assert not list(tmp_path.glob("out/state/**/*.safetensors"))


def test_an_object_that_the_store_refuses_fails_its_unit_and_no_other(
    job: Path, tmp_path: Path, run_command: Command, before_writing: Callable[[Write], None]
) -> None:
    def act(key: str) -> None:
        if "/0002-crow." in key:
            raise StoreError(f"cannot write {key}: it is larger than the server takes")

    before_writing(act)
    ended = run_command("run", job, "--json")
    report = json.loads(ended.out)
    assert (ended.code, report["done"], len(report["failed"])) == (3, 4, 1)
    assert records(tmp_path) == ["0000", "0001", "0003", "0004"]


def test_a_full_disk_ends_the_run_though_something_smaller_would_fit(
    job: Path, run_command: Command, before_writing: Callable[[Write], None]
) -> None:
    def act(key: str) -> None:
        if key.startswith("units/"):
            raise StoreError(f"cannot write {key}: the disk is full", full=True)

    before_writing(act)
    assert run_command("run", job).code == 4


@pytest.mark.parametrize("passing", [True, False], ids=["that is down", "that refuses"])
def test_a_store_that_takes_nothing_any_more_ends_the_run_with_4(
    job: Path,
    tmp_path: Path,
    run_command: Command,
    before_writing: Callable[[Write], None],
    steps: list[int],
    hurried: None,
    passing: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(numerics.LARGEST_BATCH, "cpu", 1)
    tries = []

    def act(key: str) -> None:
        if records(tmp_path):
            tries.append(key)
            raise StoreError(f"cannot write {key}: no", passing=passing)

    before_writing(act)
    began = time.monotonic()
    ended = run_command("run", job)
    assert time.monotonic() - began < 5
    assert ended.code == 4
    (line,) = [line for line in ended.err.splitlines() if line.startswith("classmodels: ")]
    assert line.startswith("classmodels: cannot write ")
    assert 1 <= len(records(tmp_path)) < 5
    assert passing or len(tries) <= upload.MOST


def test_results_that_cannot_be_encoded_fail_their_unit(
    job: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmodels.run import publish

    real = publish.encode_png

    def encode(pixels: Any, provenance: dict[str, str]) -> bytes:
        if provenance["Title"].endswith("class 3"):
            raise ValueError("too wide")
        return real(pixels, provenance)

    monkeypatch.setattr(publish, "encode_png", encode)
    ended = run_command("run", job)
    assert ended.code == 3
    assert "failed: tiny/quick/3 (dog): its results cannot be encoded: ValueError: too wide" in ended.err
    assert ended.out.startswith("4 units done")


# Overlap


def test_the_next_batch_ascends_while_one_is_written_and_the_one_after_it_waits(
    job: Path,
    run_command: Command,
    before_writing: Callable[[Write], None],
    steps: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(numerics.LARGEST_BATCH, "cpu", 1)
    gate, seen = Event(), []

    def act(key: str) -> None:
        if key.startswith("units/"):
            assert gate.wait(30)

    def look() -> None:
        seen.append(len(steps))
        gate.set()

    before_writing(act)
    watching = when(lambda: len(steps) >= 2 * STEPS, look)
    ended = run_command("run", job)
    watching.join()
    assert ended.code == 0
    assert seen == [2 * STEPS]  # of the five batches: the one that is being written, and the next
    assert len(steps) == 5 * STEPS


def test_an_interrupt_is_heard_while_the_ascent_waits_for_the_store(
    job: Path,
    tmp_path: Path,
    run_command: Command,
    before_writing: Callable[[Write], None],
    steps: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(numerics.LARGEST_BATCH, "cpu", 1)
    gate = Event()

    def act(key: str) -> None:
        if key.startswith("units/"):
            assert gate.wait(30)

    before_writing(act)
    watching = when(lambda: len(steps) >= 2 * STEPS, lambda: (interrupt(), time.sleep(0.5), gate.set()))
    ended = run_command("run", job)
    watching.join()
    assert ended.code == 130
    # Both batches that had finished are written once the store goes on.
    assert records(tmp_path) == ["0000", "0001"]
    assert "interrupted: 2 units are done and kept, 3 are left" in ended.err


def test_an_interrupt_does_not_wait_for_a_store_that_never_answers(
    job: Path,
    run_command: Command,
    before_writing: Callable[[Write], None],
    steps: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(numerics.LARGEST_BATCH, "cpu", 1)
    monkeypatch.setattr("classmodels.run.units.GRACE", 0.3)
    gate = Event()

    def act(key: str) -> None:
        if not key.startswith("runs/"):
            gate.wait(30)

    before_writing(act)
    watching = when(lambda: len(steps) >= 2 * STEPS, interrupt)
    began = time.monotonic()
    assert run_command("run", job).code == 130
    assert time.monotonic() - began < 10
    gate.set()
    watching.join()


def test_an_interrupt_stays_one_where_the_store_breaks_down_meanwhile(
    job: Path,
    run_command: Command,
    before_writing: Callable[[Write], None],
    steps: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(numerics.LARGEST_BATCH, "cpu", 1)
    gate = Event()

    def act(key: str) -> None:
        if key.startswith("units/"):
            assert gate.wait(30)
            raise StoreError("cannot write: the disk is full", full=True)

    before_writing(act)
    watching = when(lambda: len(steps) >= 2 * STEPS, lambda: (interrupt(), time.sleep(0.5), gate.set()))
    ended = run_command("run", job)
    watching.join()
    assert ended.code == 130
    assert "what had finished ascending is not written: cannot write: the disk is full" in caplog.text
    assert "interrupted: 0 units are done and kept, 5 are left" in ended.err


# A real server


def test_a_gateway_that_restarts_costs_nothing(
    tmp_path: Path,
    write_job: Callable[..., Path],
    bucket_uri: str,
    seaweed: SeaweedFS,
    run_command: Command,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = write_job(tmp_path, classes="all", output=bucket_uri, panel="all")
    proxy = FaultProxy((seaweed.host, seaweed.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    real = Ascent.step

    def step(ascent: Ascent) -> None:
        if ascent.done == 1:  # everything is refused from now on, for a second
            proxy.always(error(503, "ServiceUnavailable"))
            Timer(1.0, proxy.always, (passed,)).start()
        real(ascent)

    monkeypatch.setattr(Ascent, "step", step)
    try:
        ended = run_command("run", job)
    finally:
        proxy.stop()
    assert ended.code == 0
    assert ended.out.startswith("5 units done, 0 were done already, 0 failed, 5 verdicts")
    assert "trying again for 60 s" in caplog.text
