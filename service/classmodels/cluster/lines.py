"""A worker's lines read back: events as `run/events.py` describes them, and as a person reads them.

Other things may stand between, such as a traceback, and events that a newer worker tells: nothing is ever refused.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from classmodels.cluster.answers import plain
from classmodels.cluster.attempts import age, moment

Event = Mapping[str, Any]
_LONGEST = 2000


def read_event(line: str) -> Event | None:
    """The event that a line tells; None where it is something else."""
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None


def last_event(lines: Iterable[str], kind: str) -> Event | None:
    """The last event of that kind."""
    found = None
    for line in lines:
        event = read_event(line)
        if event is not None and event["event"] == kind:
            found = event
    return found


def time_of(line: str) -> datetime | None:
    """When an event was told; None for lines that are none."""
    event = read_event(line)
    return moment(event.get("time")) if event else None


def readable(line: str) -> str:
    """A line for people, without whose it is: `14:03:22 12 of 50 units, score 17.8, 3 min left`."""
    event = read_event(line)
    if event is None:
        return plain(line, _LONGEST)
    at = moment(event.get("time"))
    clock = f"{at.astimezone():%H:%M:%S} " if at else ""
    return clock + plain(words(event), _LONGEST)


def words(event: Event) -> str:
    """What an event says, as a sentence."""
    kind, get = event["event"], event.get
    if kind == "start":
        note = f"; {get('note')}" if get("note") else ""
        return (
            f"started: {get('units')} units, on {get('device_name') or get('device')} with the backend"
            f" {get('backend')}{note}"
        )
    if kind == "begin":
        return f"{get('work')}: {get('units')} to do"
    if kind == "progress":
        return progress(event)
    if kind == "failed":
        return f"failed: {get('what')}: {get('reason')}"
    if kind == "saved":
        return f"saved the state of {get('units')} units at step {get('step')}"
    if kind == "message":
        mark = "warning: " if get("level") == "warning" else ""
        return f"{mark}{get('text')}"
    if kind == "interrupted":
        left = "" if get("left") is None else f", {get('left')} are left"
        return f"interrupted: {get('done')} units are done and kept{left}"
    if kind == "page":
        return f"the gallery is written: {get('page')}"
    if kind == "end":
        why = f": {get('reason')}" if get("reason") else ""
        return (
            f"ended with exit code {get('exit_code')}: {get('done')} units done, {get('already')} were done already,"
            f" {get('failed')} failed, {get('verdicts')} verdicts{why}"
        )
    rest = {key: value for key, value in event.items() if key not in ("time", "event", "index")}
    return f"{kind} {json.dumps(rest, ensure_ascii=False)}"


def progress(event: Event) -> str:
    """How far a share is."""
    get, parts = event.get, []
    failed = f", {get('failed')} failed" if get("failed") else ""
    parts.append(f"{get('done')} of {get('units')} units{failed}")
    steps, of = get("image_steps"), get("of_image_steps")
    if isinstance(steps, int) and isinstance(of, int) and of > 0:
        parts.append(f"{get('work')} {100 * steps // of} %")
    if (score := number(get("score"))) is not None:
        parts.append(f"score {score:.1f}")
    if (left := number(get("seconds_left"))) is not None:
        parts.append(f"{age(left)} left")
    return ", ".join(parts)


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None
