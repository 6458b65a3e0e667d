"""`status --watch` and `submit --watch`: news as they come, an exit code at the end, and bad days in between."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from classmodels.cluster import watch
from kube.api import StandIn, passed, reset, status
from kube.controller import Controller
from kube.rules import Object

Submit = Callable[..., Object]
Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.05)
    monkeypatch.setattr("classmodels.cluster.client.PAUSES", (0.01, 0.02))


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """`meanwhile(act)` does something while a command waits; what goes wrong with it fails the test."""
    threads: list[threading.Thread] = []
    broken: list[BaseException] = []

    def start(act: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                act()
            except BaseException as error:
                broken.append(error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(30)
    assert not broken


def looked(api: StandIn, times: int = 2) -> None:
    """Wait until the server has been asked so many times more, however slow the machine: what is there was seen."""
    before, end = len(api.seen), time.monotonic() + 5
    while len(api.seen) < before + 3 * times and time.monotonic() < end:  # a look is some requests
        time.sleep(0.01)


def finish(controller: Controller, api: StandIn, *codes: int) -> None:
    """Bring the run to its end, one pod after the other, with these exit codes, each state seen by who watches."""
    for code in codes:
        controller.sync()
        live = controller.live(api.all("Job")[0])
        if not live:
            return
        controller.run(live[0])
        looked(api)
        controller.succeed(live[0]) if code == 0 else controller.fail(live[0], code)
        looked(api)


@pytest.mark.parametrize(
    ("codes", "expected", "word"),
    [((0, 0, 0), 0, "complete"), ((0, 3, 0), 3, "failed"), ((2,), 2, "refused"), ((3, 3, 3), 3, "failed")],
)
def test_the_exit_code_is_that_of_the_result(
    submitted: Submit,
    api: StandIn,
    controller: Controller,
    run_command: Command,
    meanwhile: Callable[..., None],
    codes: tuple[int, ...],
    expected: int,
    word: str,
) -> None:
    submitted()
    meanwhile(lambda: finish(controller, api, *codes))
    ended = run_command("status", "--watch")
    assert ended.code == expected
    assert word in ended.out


def test_in_a_log_there_is_a_line_where_something_happens(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command, meanwhile: Callable[..., None]
) -> None:
    submitted()
    meanwhile(lambda: finish(controller, api, 0, 4, 0, 0))
    lines = run_command("status", "--watch").out.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d |  classmodels ", line) for line in lines)
    assert any("storage or the node's GPU could not be used" in line for line in lines)
    assert 5 <= len(lines) < 30
    assert lines[-1].startswith("  classmodels pull s3://")


def test_for_programs_each_line_is_a_status(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command, meanwhile: Callable[..., None]
) -> None:
    submitted()
    meanwhile(lambda: finish(controller, api, 0, 0, 0))
    told = [json.loads(line) for line in run_command("status", "--watch", "--json").out.splitlines()]
    assert told[-1]["state"] == "complete"
    assert {one["state"] for one in told[:-1]} <= {"pending", "running"}
    assert len(told) < 30


def test_a_submission_can_be_watched_at_once(
    cluster_job: Callable[..., Path],
    api: StandIn,
    controller: Controller,
    run_command: Command,
    meanwhile: Callable[..., None],
) -> None:
    def work() -> None:
        while not any(job["spec"]["suspend"] is False for job in api.all("Job")):
            time.sleep(0.05)
        finish(controller, api, 0, 3, 0)

    meanwhile(work)
    ended = run_command("submit", cluster_job(), "--watch")
    assert ended.code == 3
    assert ended.out.startswith("submitted ")
    assert "classmodels retry" in ended.out.splitlines()[-2]


def test_a_server_that_is_away_for_a_while_is_waited_for(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command, meanwhile: Callable[..., None]
) -> None:
    submitted()

    def act() -> None:
        controller.sync()
        looked(api)
        api.usual = status(503, "ServiceUnavailable", "the API server is shutting down")
        looked(api)
        api.usual = reset
        looked(api)
        api.usual = passed
        looked(api)
        finish(controller, api, 0, 0, 0)

    meanwhile(act)
    ended = run_command("status", "--watch")
    assert ended.code == 0
    assert ended.out.count("the API server is shutting down") == 1
    assert "the run goes on all the same" in ended.out
    assert "the API server is back" in ended.out


def test_a_server_that_stays_away_is_given_up(
    submitted: Submit,
    api: StandIn,
    run_command: Command,
    meanwhile: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "PATIENCE", 0.5)
    submitted()

    def act() -> None:
        time.sleep(0.5)
        api.usual = status(503, "ServiceUnavailable")

    meanwhile(act)
    assert run_command("status", "--watch").code == 4


def test_rights_that_are_taken_away_end_the_watching(
    submitted: Submit, api: StandIn, run_command: Command, meanwhile: Callable[..., None]
) -> None:
    submitted()

    def act() -> None:
        time.sleep(0.5)
        api.forbidden.add(("get", "jobs"))

    meanwhile(act)
    ended = run_command("status", "--watch")
    assert (ended.code, "the user may not" in ended.err) == (4, True)


def test_a_bucket_that_is_away_does_not_end_the_watching(
    submitted: Submit,
    api: StandIn,
    controller: Controller,
    run_command: Command,
    meanwhile: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submitted()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    meanwhile(lambda: finish(controller, api, 0, 0, 0))
    ended = run_command("status", "--watch")
    assert (ended.code, "the store cannot be read" in ended.out) == (0, True)


def test_a_run_that_somebody_cancels_is_over(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command, meanwhile: Callable[..., None]
) -> None:
    submitted()

    def act() -> None:
        time.sleep(0.5)
        api.remove(api.all("Job")[0])

    meanwhile(act)
    ended = run_command("status", "--watch")
    assert (ended.code, "somebody has cancelled it" in ended.out) == (130, True)


def test_ctrl_c_ends_the_watching_and_not_the_run(
    submitted: Submit, api: StandIn, run_command: Command, meanwhile: Callable[..., None]
) -> None:
    name = submitted()["metadata"]["name"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    over = threading.Event()

    def act() -> None:
        looked(api, times=4)
        while not over.is_set():  # again where it came between two commands' handlers
            os.kill(os.getpid(), signal.SIGINT)
            over.wait(20)

    meanwhile(act)
    try:
        ended = run_command("status", "--watch")
    finally:
        over.set()
    assert ended.code == 130
    assert ended.err.strip() == f"the run goes on: classmodels status {name} --watch, or classmodels cancel {name}"
    assert api.all("Job")


def test_on_a_terminal_the_status_is_drawn_in_place(
    submitted: Submit,
    api: StandIn,
    controller: Controller,
    run_command: Command,
    meanwhile: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "Console", lambda: Console(force_terminal=True, width=100, height=30))
    submitted()
    meanwhile(lambda: finish(controller, api, 0, 0, 0))
    ended = run_command("status", "--watch")
    assert ended.code == 0
    assert "\x1b[2K" in ended.out, "lines are cleared before they are drawn again"
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.out.rpartition("\x1b[2K")[2])
    assert "complete after" in last
    assert "3 done" in last
