"""What a night tells: a summary for programs, the same for people in Markdown, and a message to whoever wants one.

A night that has nothing to tell that was not told before leaves no summary. Names and reasons come from files that
others wrote: in Markdown they stand as code, and nothing in them is obeyed.
"""

import json
import logging
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from classmodels.errors import InputError
from classmodels.job.identity import digest12
from classmodels.nights.night import Night
from classmodels.nights.outcome import Outcome
from classmodels.run.upload import Failure
from classmodels.store import Store
from classmodels.store.nights import summaries_prefix
from classmodels.store.records import canonical

log = logging.getLogger("classmodels")

WEBHOOK = "CLASSMODELS_WEBHOOK"
TIMEOUT = 10.0
"""Seconds that whoever is told has to answer."""
SHOWN = 20
"""Lines of each list in the summary for people."""
LISTED = 100
"""Entries of each list of troubles in the summary for programs."""
KEPT = 400
"""Summaries that stay; older ones are deleted."""


def summary_of(job: str, night: Night) -> dict[str, Any]:
    """The night for programs. Links are keys in the store."""
    return {
        "version": 1,
        "job": job,
        "began": night.began.isoformat(),
        "seconds": round(night.seconds, 1),
        "exit_code": night.exit_code,
        "checkpoints": [_outcome(one) for one in night.outcomes],
        "passed": [{"uri": one.uri, "reason": one.reason} for one in night.passed if not one.later][:LISTED],
        "waiting": sum(one.later for one in night.passed),
        "failed": _failures(night.failures),
        "changes": night.changes,
        "pages": night.pages,
    }


def write_summary(store: Store, job: str, night: Night, summary: dict[str, Any]) -> list[str]:
    """Keep the summary under a name that sorts by the newest checkpoint in it; forget the oldest. Returns the keys."""
    newest = max((one.found.time or one.found.modified for one in night.outcomes), default=night.began)
    told = {key: value for key, value in summary.items() if key not in ("began", "seconds")}
    stem = f"{summaries_prefix(job)}{newest:%Y%m%dT%H%M%SZ}-{digest12(told)}"
    store.write(f"{stem}.json", canonical(summary))
    store.write(f"{stem}.md", markdown(summary).encode())
    kept = sorted(store.entries(summaries_prefix(job)), key=lambda entry: (entry.modified, entry.key))
    for entry in kept[: -2 * KEPT]:
        store.delete(entry.key)
    return [f"{stem}.json", f"{stem}.md"]


def markdown(summary: dict[str, Any]) -> str:
    """The summary for people; its links count from its own place in the store."""
    ends: dict[str, list[dict[str, Any]]] = {}
    for one in summary["checkpoints"]:
        ends.setdefault(one["end"], []).append(one)
    lines = [f"# {summary['job']}: the night of {summary['began'][:10]}", ""]
    made = sum(one["made"] for one in summary["checkpoints"])
    counts = ", ".join(f"{len(found)} {end}" for end, found in sorted(ends.items())) or "none"
    lines += [f"Checkpoints: {counts}; {made} class models made in {summary['seconds']:.0f} s.", ""]
    if summary["changes"]:
        lines += ["## What changed most", ""]
        for one in summary["changes"][:SHOWN]:
            counted = f"{one['changed']} of {one['of']} classes (by chance alone about {one['chance']})"
            lines += [f"- [{_pair(one)}](../../../{one['page']}): {counted}"]
            lines += [f"  - {_code(most['label'])}: {', '.join(map(_words, most['said']))}" for most in one["most"]]
        lines += [""]
    if ends.get("done"):
        lines += ["## New galleries", ""]
        lines += _list([f"[{_place(one)}](../../../{one['page']}){_failed(one)}" for one in ends["done"]])
    trouble = [
        f"{_code(one['uri'])}: {one['end']}: {_code(one['reason'])}"
        for end in ("broken", "blocked", "incomplete", "unreachable")
        for one in ends.get(end, ())
    ]
    trouble += [f"{_code(one['what'])}: {_code(one['reason'])}" for one in summary["failed"]]
    trouble += [f"{_code(one['uri'])}: {_code(one['reason'])}" for one in summary["passed"]]
    if trouble:
        lines += ["## To look at", "", *_list(trouble)]
    if ends.get("submitted"):
        lines += ["## Submitted", "", *_list([f"{_place(one)}: {_code(one['run'])}" for one in ends["submitted"]])]
    pages = [key for key in summary["pages"] if key.endswith("/index.html") and "/compare/" not in key]
    if pages:
        lines += ["## Pages", "", *_list([f"[{key}](../../../{key})" for key in pages])]
    return "\n".join(lines).rstrip() + "\n"


def check_webhook(url: str) -> None:
    """Raises InputError, without showing it, where `url` is nothing to post to: it may hold a secret."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        fine = False
    if not fine:
        raise InputError(f"--webhook, or {WEBHOOK}: expected https://host/path without a user name or password")


def post(url: str, summary: dict[str, Any]) -> bool:
    """Post the summary as JSON. Returns whether it was taken; that it was not is a warning and nothing more."""
    host = urlsplit(url).hostname
    try:
        request = urllib.request.Request(
            url, json.dumps(summary).encode(), {"Content-Type": "application/json", "User-Agent": "classmodels"}
        )
        with urllib.request.build_opener(_StayHere).open(request, timeout=TIMEOUT):
            return True
    except urllib.error.HTTPError as error:
        log.warning("the webhook at %s was told and answered %s", host, error.code)
    except (OSError, ValueError) as error:  # what does not connect, times out, or answers in no HTTP
        log.warning("the webhook at %s was not told: %s", host, type(getattr(error, "reason", error)).__name__)
    except Exception as error:  # http.client has errors of its own; to fail to tell must not fail the night
        log.warning("the webhook at %s was not told: %s", host, type(error).__name__)
    return False


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the summary is for the one who was named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _outcome(one: Outcome) -> dict[str, Any]:
    found = one.found
    return {
        "source": found.source,
        "uri": found.uri,
        "step": found.step,
        "epoch": found.epoch,
        "time": found.time and found.time.isoformat(),
        "modified": found.modified.isoformat(),
        "tags": list(found.tags),
        "why": one.why,
        "end": one.end,
        "reason": one.reason,
        "units": one.units,
        "made": one.made,
        "failures": len(one.failed),
        "failed": _failures(one.failed),
        "run": one.run,
        "page": one.page,
    }


def _failures(failures: Sequence[Failure]) -> list[dict[str, str]]:
    return [{"what": one.what, "reason": one.reason} for one in failures[:LISTED]]


def _place(one: dict[str, Any]) -> str:
    """Which checkpoint it is: two trainings have the same steps, on other days."""
    known = [f"{name} {one[name]}" for name in ("step", "epoch") if one[name] is not None]
    time = one["time"] or one["modified"]
    return f"{one['source']} {', '.join([*known, time[:10]] if known else [time])}"


def _failed(one: dict[str, Any]) -> str:
    return f": {one['failures']} of {one['units']} failed" if one["failures"] else ""


def _pair(one: dict[str, Any]) -> str:
    """Which two checkpoints were compared."""
    return f"{one['source']}: {_words(one['older']['name'])} to {_words(one['newer']['name'])}"


def _words(text: str) -> str:
    """Plain words as they are, anything else as code."""
    return text if re.fullmatch(r"(?:[A-Za-z0-9 ,+-]|(?<=[0-9])\.(?=[0-9]))*", text) else _code(text)


def _list(items: Sequence[str]) -> list[str]:
    more = [f"- and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [*(f"- {item}" for item in items[:SHOWN]), *more, ""]


def _code(text: Any) -> str:
    """`text` as code on one line, whatever it holds."""
    plain = re.sub(r"\s+", " ", str(text)).replace("`", "'")
    return f"`{plain[:500]}`"
