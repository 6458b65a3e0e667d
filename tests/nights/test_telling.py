"""What a night tells: a summary that people and programs can read, and a message that may fail without harm."""

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from classmodels.nights import tell
from classmodels.nights.discover import Passed
from classmodels.nights.night import Night
from classmodels.nights.outcome import Outcome
from classmodels.run.upload import Failure
from nights_at_work import JOB, Nights


class Hook(http.server.BaseHTTPRequestHandler):
    """Remembers what it is told and answers `status`; where that is None, it hangs up."""

    told: list[tuple[str, Any]] = []
    status: int | None = 200

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        Hook.told.append((self.headers["Content-Type"], json.loads(data)))
        if Hook.status is not None:
            self.send_response(Hook.status)
            if Hook.status == 302:
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
            self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hook.told, Hook.status = [], 200
    yield f"http://127.0.0.1:{server.server_address[1]}/hook?token=secret"
    server.shutdown()
    server.server_close()


def test_the_summary_is_kept_in_both_forms_and_its_links_lead_to_pages(nights: Nights) -> None:
    nights.save("step_1.safetensors", seed=1)
    nights.save("step_2.safetensors", seed=2)
    said = nights.night()
    kept = sorted(nights.store.list(f"nights/{JOB}/summaries/"))
    assert [key.rpartition(".")[2] for key in kept] == ["json", "md"]
    assert said["summary"] == kept[1]
    again = json.loads(nights.store.read(kept[0]) or b"")
    assert again == {key: value for key, value in said.items() if key != "summary"}
    markdown = (nights.store.read(kept[1]) or b"").decode()
    links = [part.partition(")")[0] for part in markdown.split("](")[1:]]
    assert len(links) >= 4
    for link in links:
        assert nights.store.read(link.removeprefix("../../../")), link


def test_a_webhook_is_told_when_something_happened_and_only_then(nights: Nights, hook: str) -> None:
    nights.save("step_1.safetensors", seed=1)
    said = nights.night("--webhook", hook)
    assert Hook.told == [("application/json", said)]
    nights.night("--webhook", hook)
    assert len(Hook.told) == 1


class Killed(BaseException):
    """As SIGKILL: nothing here catches it."""


@pytest.mark.parametrize("at", ["classmodels.nightly.write_summary", "classmodels.nights.show.write_night"])
def test_what_a_night_did_that_was_killed_before_it_told_is_told_by_the_next_one_and_once(
    nights: Nights, hook: str, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    nights.save("step_1.safetensors", seed=1)
    nights.night()
    nights.save("step_2.safetensors", seed=2)
    nights.save("step_3.safetensors", data=b"no network")
    with monkeypatch.context() as patched:
        patched.setattr(at, lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            nights.run("--webhook", hook)
    assert len(nights.entries) == 2
    assert not Hook.told
    said = nights.night("--webhook", hook, code=3)
    assert [(one["step"], one["end"], one["why"]) for one in said["checkpoints"]] == [
        (2, "done", "earlier"),
        (3, "broken", "earlier"),
    ]
    assert [one["newer"]["step"] for one in said["changes"]] == [2]
    assert Hook.told == [("application/json", said)]
    assert nights.run("--webhook", hook).out == "nothing new\n"
    assert len(Hook.told) == 1


def test_a_summary_stays_readable_however_much_failed(nights: Nights) -> None:
    failed = tuple(Failure(f"unit {number}", "why " * 100) for number in range(100_000))
    found = SimpleNamespace(**dict.fromkeys(("step", "epoch", "time"), None), source="tiny", uri="a", tags=())
    found.modified = datetime(2026, 1, 1, tzinfo=UTC)
    night = Night(found.modified, [Outcome(found, "new", "done", 100_000, failed=failed, page="page")])
    night.passed = [Passed(f"uri {number}", "why") for number in range(10_000)]
    summary = tell.summary_of("job", night)
    assert len(json.dumps(summary)) < 200_000
    assert summary["checkpoints"][0]["failures"] == 100_000
    assert ": 100000 of 100000 failed" in tell.markdown(summary)


def test_old_summaries_make_room_for_new_ones(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tell, "KEPT", 2)
    said = []
    for step in (1, 2, 3):
        nights.save(f"step_{step}.safetensors", seed=step)
        said.append(nights.night()["summary"])
    kept = set(nights.store.list(f"nights/{JOB}/summaries/"))
    assert kept == {key for one in said[1:] for key in (one, one.removesuffix("md") + "json")}


@pytest.mark.parametrize("status", [500, 302, None])
def test_a_webhook_that_fails_fails_no_night_and_its_secret_is_not_said(
    nights: Nights, hook: str, status: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Hook.status = status
    monkeypatch.setenv(tell.WEBHOOK, hook)
    nights.save("step_1.safetensors", seed=1)
    assert nights.run().code == 0
    assert len(Hook.told) == 1
    assert "the webhook at 127.0.0.1 was" in caplog.text
    assert "secret" not in caplog.text


def test_a_webhook_where_nobody_listens_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert tell.post("http://127.0.0.1:9/", {}) is False
    assert "was not told" in caplog.text


def test_names_and_reasons_stand_as_code_whatever_they_hold() -> None:
    night = Night(datetime(2026, 1, 1, tzinfo=UTC))
    summary = tell.summary_of("job", night)
    summary["checkpoints"] = [
        {"end": "broken", "uri": "a`](javascript:x)\n# Hello", "reason": "<script>`", "made": 0, "failed": []}
    ]
    (line,) = (line for line in tell.markdown(summary).splitlines() if "Hello" in line)
    assert line == "- `a'](javascript:x) # Hello`: broken: `<script>'`"
