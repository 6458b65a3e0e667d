"""What a worker tells: lines of a documented schema, without secrets; and a log of them in the store, bounded."""

import io
import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from classmodels.errors import StoreError
from classmodels.run import shipping, told
from classmodels.run.event_log import EventLog, secrets
from classmodels.run.events import End, Message, json_schema
from classmodels.run.shipping import Shipping, log_key
from classmodels.store.folder import FolderStore

Command = Callable[..., Any]


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Events


def test_the_schema_of_events_is_printed_and_is_one(run_command: Command) -> None:
    schema = json.loads(run_command("schema", "--events").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    kinds = {branch["$ref"].rpartition("/")[2].lower() for branch in schema["oneOf"]}
    assert kinds == {"start", "begin", "progress", "failed", "saved", "message", "interrupted", "page", "end"}
    for name in ("Progress", "End"):
        definition = schema["$defs"][name]
        assert definition["description"]
        assert {"time", "event", "index"} <= set(definition["properties"])


def test_every_line_has_a_time_in_utc_an_event_and_the_index() -> None:
    out, before = io.StringIO(), datetime.now(UTC)
    EventLog(7, out).tell(Message, level="info", text="two\nlines, \u2028 and a \udcff")
    (line,) = out.getvalue().splitlines()
    event = json.loads(line)
    assert list(event)[:3] == ["time", "event", "index"]
    assert event["index"] == 7
    assert event["time"].endswith("Z")
    assert abs((datetime.fromisoformat(event["time"]) - before).total_seconds()) < 5


def test_progress_tells_units_steps_speed_score_and_time_left(
    tmp_path: Path,
    write_job: Callable[..., Path],
    tiny_data: Callable[[], dict[str, Any]],
    run_command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(told, "EVERY", 0)
    monkeypatch.setenv("TINY_SLEEP", "0.2")
    model = tiny_data()["models"][0] | {"source": {"factory": "nets:slow"}, "checkpoint": None}
    recipes = [{"name": name, "extends": "plain", "steps": 4} for name in ("one", "two")]
    job = write_job(tmp_path, models=[model], recipes=recipes, panel="all")
    ended = run_command("worker", "--job", job, "--index", 0, "--shards", 1)
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert [event["work"] for event in found if event["event"] == "begin"] == [
        "tiny / one",
        "tiny / two",
        "judge tiny",
    ]
    progress = [event for event in found if event["event"] == "progress"]
    first, second = progress[:4], progress[4:8]
    assert [event["image_steps"] for event in first] == [2, 4, 6, 8]
    assert {event["of_image_steps"] for event in first} == {8}
    assert {event["units"] for event in progress} == {4}
    assert progress[-1]["done"] == 4
    assert all(event["image_steps_per_second"] > 0 for event in first)
    # Before the first step is over 6 image-steps of this recipe and 8 of the other are left; at the very end none.
    left = [round(event["seconds_left"] * event["image_steps_per_second"]) for event in first + second]
    assert left == pytest.approx([14, 12, 10, 8, 6, 4, 2, 0], abs=1)
    scores = [event["score"] for event in first]
    assert scores == sorted(scores)
    record = json.loads(sorted(tmp_path.glob("out/units/*/one@*/0000.json"))[0].read_text())
    other = json.loads(sorted(tmp_path.glob("out/units/*/one@*/0002.json"))[0].read_text())
    assert scores[0] == pytest.approx((record["scores"][0] + other["scores"][0]) / 2, abs=1e-3)


def test_what_a_saved_state_brings_is_no_speed() -> None:
    out = io.StringIO()
    listener = told.Told(EventLog(0, out))
    listener.begin("a / b", 1, 1000)
    listener._ascending = True
    listener.step(900)  # by the process that saved them
    listener.step(1)
    listener._told = -1e9
    listener.score(lambda: float("nan"))
    event = json.loads(out.getvalue().splitlines()[-1])
    assert event["image_steps"] == 901
    assert event["image_steps_per_second"] != pytest.approx(0)
    assert listener._timed == 1
    assert event["score"] is None


def test_a_warning_is_an_event_and_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    log = EventLog(0, out)
    with log.hearing_warnings():
        logging.getLogger("classmodels").warning("a saved state is %s", "ignored")
        logging.getLogger("classmodels").info("nobody needs this")
    logging.getLogger("classmodels").addHandler(handler := logging.NullHandler())
    logging.getLogger("classmodels").warning("too late")
    logging.getLogger("classmodels").removeHandler(handler)
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["text"] == "a saved state is ignored"
    assert json.loads(line)["level"] == "warning"
    assert capsys.readouterr().err == "a saved state is ignored\n"


def test_nobody_hears_a_log_whose_reader_is_gone() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    kept: list[bytes] = []
    EventLog(0, Gone(), kept.append).tell(Message, level="info", text="hello")
    assert len(kept) == 1


# Secrets


def test_no_line_holds_a_credential_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = {
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SESSION_TOKEN": 'with "quotes" and \\',
        "HTTPS_PROXY": "http://me:pass%2Fword@proxy:3128",
        "MY_API_KEY": "0123456789",
    }
    shown = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token", "AWS_REGION": "eu-central-1", "SHORT_TOKEN": "no"}
    for name, value in (hidden | shown).items():
        monkeypatch.setenv(name, value)
    out, kept = io.StringIO(), []
    log = EventLog(0, out, kept.append)
    text = " ".join([*hidden.values(), "pass/word", *shown.values()])
    with log.hearing_warnings():
        log.tell(Message, level="info", text=text)
        logging.getLogger("classmodels").warning("%s", text)
    for line in (*out.getvalue().splitlines(), *map(bytes.decode, kept)):
        said = json.loads(line)["text"]
        assert not [value for value in hidden.values() if value in said]
        assert "pass%2Fword" not in said
        assert "pass/word" not in said
        assert said.endswith("/var/run/token eu-central-1 no")
    err = capsys.readouterr().err
    assert not [value for value in hidden.values() if value in err]


def test_secrets_are_blotted_out_longest_first() -> None:
    assert secrets({"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefghij"}) == ("abcdefghij", "abcdefgh")


# The log in the store


def lines(store: FolderStore, key: str) -> list[str]:
    return [json.loads(line)["text"] for line in (store.read(key) or b"").splitlines()]


def message(text: str) -> bytes:
    return json.dumps({"text": text}).encode()


def test_a_log_lies_by_its_job_and_pod() -> None:
    named = {"CLASSMODELS_JOB_NAME": "tiny-0123", "CLASSMODELS_JOB_UID": "89-ab", "POD_NAME": "tiny-0123-4-xyz"}
    assert log_key("abcdefabcdef", 4, named) == "runs/abcdefabcdef/logs/tiny-0123@89-ab/4.tiny-0123-4-xyz.jsonl"
    assert log_key("abcdefabcdef", 4, {"POD_NAME": "p"}) == "runs/abcdefabcdef/logs/local/4.p.jsonl"
    hostile = {"CLASSMODELS_JOB_NAME": "../../x", "CLASSMODELS_JOB_UID": "../..", "POD_NAME": ".."}
    key = log_key("abcdefabcdef", 4, hostile)
    assert ".." not in key.split("/")
    assert key.count("/") == 4


def test_a_log_is_shipped_now_and_then_if_there_is_something_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "EVERY", 0.05)
    written: list[bytes] = []

    class Store(FolderStore):
        def write(self, key: str, data: bytes) -> None:
            super().write(key, data)
            written.append(data)

    store, log = Store(tmp_path), Shipping(0)
    log.keep(message("before anybody knew where to"))
    log.begin(store, "x.jsonl")
    wait_until(lambda: len(written) == 1)
    time.sleep(0.3)
    assert len(written) == 1
    log.keep(message("more"))
    wait_until(lambda: len(written) == 2)
    log.keep(message("the end"))
    log.close(5)
    assert lines(store, "x.jsonl") == ["before anybody knew where to", "more", "the end"]


def test_storage_that_is_down_for_a_while_costs_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "EVERY", 0.02)
    failures = []

    class Store(FolderStore):
        def write(self, key: str, data: bytes) -> None:
            if len(failures) < 3:
                failures.append(key)
                raise StoreError("down", passing=True)
            super().write(key, data)

    store, log = Store(tmp_path), Shipping(0)
    log.begin(store, "x.jsonl")
    log.keep(message("one"))
    wait_until(lambda: len(failures) == 3)
    log.close(5)
    assert lines(store, "x.jsonl") == ["one"]


def test_a_store_that_never_answers_does_not_keep_the_worker_from_ending(tmp_path: Path) -> None:
    gate = threading.Event()

    class Store(FolderStore):
        def write(self, key: str, data: bytes) -> None:
            gate.wait(30)

    log = Shipping(0)
    log.begin(Store(tmp_path), "x.jsonl")
    log.keep(message("one"))
    began = time.monotonic()
    log.close(0.2)
    assert time.monotonic() - began < 2
    gate.set()


def test_a_log_is_bounded_and_keeps_its_beginning_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "HEAD", 1000)
    monkeypatch.setattr(shipping, "TAIL", 3000)
    store, log = FolderStore(tmp_path), Shipping(3)
    for number in range(10_000):
        log.keep(message(f"line {number}"))
    assert len(log._tail) < 500
    log.begin(store, "x.jsonl")
    log.close(5)
    found = lines(store, "x.jsonl")
    assert found[0] == "line 0"
    assert found[-1] == "line 9999"
    (gap,) = [text for text in found if not text.startswith("line ")]
    assert gap == f"{10_000 - (len(found) - 1)} lines are left out here: the log is larger than what is kept of it"
    for line in (store.read("x.jsonl") or b"").splitlines():
        if b"left out" in line:
            jsonschema.validate(json.loads(line), json_schema())


def test_an_end_without_a_reason_says_null() -> None:
    out = io.StringIO()
    counts = {"done": 1, "already": 0, "failed": 0, "verdicts": 0}
    EventLog(0, out).tell(End, exit_code=0, reason=None, seconds=0.1, **counts)
    assert json.loads(out.getvalue())["reason"] is None
