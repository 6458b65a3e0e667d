"""`logs`: of pods while they are there and from the bucket afterwards, for people and for programs."""

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from classmodels.cluster import logs
from classmodels.cluster.lines import readable
from classmodels.store import Store, open_store
from kube.api import StandIn, passed, status
from kube.controller import Controller
from kube.rules import Object

Submit = Callable[..., Object]
Command = Callable[..., Any]

EVENTS = [
    {
        "event": "start",
        "units": 2,
        "device": "cuda:0",
        "device_name": "NVIDIA H100",
        "backend": "cuda",
        "note": None,
    },
    {"event": "begin", "work": "tiny / quick", "units": 2, "steps": 3},
    {
        "event": "progress",
        "done": 1,
        "failed": 0,
        "units": 2,
        "work": "tiny / quick",
        "image_steps": 3,
        "of_image_steps": 6,
        "score": 17.84,
        "seconds_left": 190.0,
    },
    {"event": "failed", "what": "tiny/quick/1 (bee)", "reason": "the score is not finite"},
    {"event": "saved", "units": 2, "step": 3},
    {"event": "message", "level": "warning", "text": "storage is slow"},
    {"event": "interrupted", "done": 1, "left": 1},
    {"event": "page", "page": "s3://b/p/galleries/tiny/0/index.html"},
    {"event": "end", "exit_code": 3, "reason": "x", "done": 1, "already": 0, "failed": 1, "verdicts": 0, "seconds": 1},
    {"event": "brand-new", "colour": "blue"},
]


def line(at: datetime, **event: Any) -> str:
    return json.dumps({"time": at.isoformat(), **event, "index": 0})


def keep(store: Store, job: Object, index: int, pod: str, *lines: str) -> None:
    """As a worker ships its log."""
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    key = f"runs/{name.rpartition('-')[2]}/logs/{name}@{uid}/{index}.{pod}.jsonl"
    store.write(key, "".join(f"{one}\n" for one in lines).encode())


def running(controller: Controller, api: StandIn) -> list[Object]:
    controller.sync()
    pods = sorted(controller.live(api.all("Job")[0]), key=lambda pod: pod["metadata"]["name"])
    for pod in pods:
        controller.run(pod)
    return pods


@pytest.mark.parametrize(
    ("event", "words"),
    list(
        zip(
            EVENTS,
            [
                "started: 2 units, on NVIDIA H100 with the backend cuda",
                "tiny / quick: 2 to do",
                "1 of 2 units, tiny / quick 50 %, score 17.8, 3 min left",
                "failed: tiny/quick/1 (bee): the score is not finite",
                "saved the state of 2 units at step 3",
                "warning: storage is slow",
                "interrupted: 1 units are done and kept, 1 are left",
                "the gallery is written: s3://b/p/galleries/tiny/0/index.html",
                "ended with exit code 3: 1 units done, 0 were done already, 1 failed, 0 verdicts: x",
                'brand-new {"colour": "blue"}',
            ],
            strict=True,
        )
    ),
    ids=[event["event"] for event in EVENTS],
)
def test_every_event_reads_as_a_sentence(event: dict[str, Any], words: str) -> None:
    said = readable(line(datetime(2026, 1, 1, tzinfo=UTC), **event))
    assert re.fullmatch(r"\d\d:\d\d:\d\d " + re.escape(words), said)


@pytest.mark.parametrize("text", ["Traceback (most recent call last):", "{", '{"event": 3}', "[]", "", '{"time": 1}'])
def test_what_is_no_event_is_shown_as_it_is(text: str) -> None:
    assert readable(text) == text


def test_what_a_terminal_would_obey_is_taken_out() -> None:
    assert readable("\x1b]0;title\x07red") == "]0;title red"


def test_a_running_pod_tells_its_own_log(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command
) -> None:
    submitted()
    first, second = running(controller, api)
    controller.say(first, line(datetime.now(UTC), **EVENTS[0]), "a traceback")
    controller.say(second, line(datetime.now(UTC), **EVENTS[1]))
    said = run_command("logs").out.splitlines()
    assert [one[:4].strip() for one in said] == ["0", "0", "1"]
    assert said[1] == "   0 a traceback"
    assert run_command("logs", "--index", 1).out.splitlines() == said[2:]


def test_for_programs_the_lines_are_as_the_workers_told_them(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command
) -> None:
    submitted()
    told = [line(datetime.now(UTC), **event) for event in EVENTS]
    controller.say(running(controller, api)[0], *told)
    assert run_command("logs", "--json").out.splitlines() == told


def test_pods_that_are_gone_have_left_their_logs_in_the_bucket(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command, bucket_uri: str
) -> None:
    job = submitted()
    pod = running(controller, api)[0]
    controller.say(pod, "this one is there")
    keep(open_store(bucket_uri), job, 0, "gone", "this one is gone")
    keep(open_store(bucket_uri), job, 0, pod["metadata"]["name"], "an older copy of what is there")
    assert run_command("logs").out.splitlines() == ["   0 this one is gone", "   0 this one is there"]


def test_where_a_node_does_not_answer_the_bucket_does(
    submitted: Submit,
    api: StandIn,
    controller: Controller,
    run_command: Command,
    bucket_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("classmodels.cluster.client.PAUSES", ())
    job = submitted()
    first, _ = running(controller, api)
    keep(open_store(bucket_uri), job, 0, first["metadata"]["name"], "kept in time")
    down = status(500, "InternalError", "dial tcp: i/o timeout")
    api.usual = lambda handler: down(handler) if "/log?" in handler.path else passed(handler)
    first_line, second_line = run_command("logs").out.splitlines()
    assert first_line == "   0 kept in time"
    assert "dial tcp: i/o timeout" in second_line


def test_logs_of_a_run_that_the_cluster_has_forgotten(
    submitted: Submit, api: StandIn, run_command: Command, bucket_uri: str
) -> None:
    job = submitted()
    keep(open_store(bucket_uri), job, 2, "gone", "said long ago")
    run12 = job["metadata"]["name"].rpartition("-")[2]
    api.objects.clear()
    assert run_command("logs", run12, "--output", bucket_uri).out == "   2 said long ago\n"
    assert run_command("logs", run12).code == 2


def test_only_what_is_younger(
    submitted: Submit, api: StandIn, controller: Controller, run_command: Command, bucket_uri: str
) -> None:
    job = submitted()
    now = datetime.now(UTC)
    old = now - timedelta(minutes=20)
    pod = running(controller, api)[0]
    controller.say(pod, "old", at=old)
    controller.say(pod, "new", at=now)
    events = line(old, event="message", text="kept, old"), line(now, event="message", text="kept, new")
    keep(open_store(bucket_uri), job, 1, "gone", *events, "a traceback after it")
    said = [one.rpartition(" ")[2] for one in run_command("logs", "--since", "10m").out.splitlines()]
    assert said == ["new", "new", "it"]


@pytest.mark.parametrize("text", ["ten", "10", "-1m", "10m5s", ""])
def test_an_age_that_is_none(run_command: Command, text: str) -> None:
    ended = run_command("logs", f"--since={text}")
    assert (ended.code, "expected an age such as 45s, 10m" in ended.err) == (2, True)


def test_nothing_was_said_yet(submitted: Submit, run_command: Command) -> None:
    submitted()
    ended = run_command("logs")
    assert (ended.code, ended.out, "no worker has said anything" in ended.err) == (0, "", True)


def test_logs_that_are_followed_come_as_they_are_said_until_the_run_is_over(
    submitted: Submit,
    api: StandIn,
    controller: Controller,
    run_command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of pods that begin later."""
    monkeypatch.setattr(logs, "EVERY", 0.1)
    submitted()

    def work() -> None:
        for _ in range(3):
            controller.sync()
            pod = controller.live(api.all("Job")[0])[0]
            controller.run(pod)
            for number in range(5):
                controller.say(pod, f"{pod['metadata']['name']} says {number}", "and again the same")
                time.sleep(0.05)
            time.sleep(0.3)
            controller.succeed(pod)

    thread = threading.Thread(target=work)
    thread.start()
    said = run_command("logs", "--follow").out.splitlines()
    thread.join()
    pods = [pod["metadata"]["name"] for pod in controller.pods(api.all("Job")[0])]
    for index, pod in enumerate(pods):
        mine = [one for one in said if one.startswith(f"{index:>4} ")]
        expected = [text for n in range(5) for text in (f"{index:>4} {pod} says {n}", f"{index:>4} and again the same")]
        assert mine == expected


def test_a_followed_log_whose_connection_breaks_goes_on_where_it_was(
    submitted: Submit,
    api: StandIn,
    controller: Controller,
    run_command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "EVERY", 0.1)
    monkeypatch.setattr(logs, "AGAIN", 0.05)
    monkeypatch.setattr("classmodels.cluster.client.SILENCE", 0.3)
    submitted()

    def work() -> None:
        pod = running(controller, api)[0]
        controller.say(pod, "one", "two", "two")
        time.sleep(1)  # longer than a reader waits: it asks again
        controller.say(pod, "three")
        time.sleep(0.5)
        for _ in range(3):
            controller.sync()
            controller.succeed(controller.live(api.all("Job")[0])[0])

    thread = threading.Thread(target=work)
    thread.start()
    said = [one.split()[-1] for one in run_command("logs", "--follow", "--index", "0").out.splitlines()]
    thread.join()
    assert said == ["one", "two", "two", "three"]
    assert api.seen.count("GET log") > 2
