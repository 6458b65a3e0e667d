"""A status, a submission and a list of runs as people read them: lines of text."""

import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from classmodels.cluster.attempts import COMPLETE, FAILED, REFUSED, Attempt, age, seconds_since
from classmodels.cluster.runs import Run
from classmodels.cluster.status import DELETING, PENDING, RUNNING, STOPPED, SUSPENDED, WAITING, Shard, Status
from classmodels.cluster.steer import Cancelled
from classmodels.cluster.submit import ATTACHED, DONE, RESUMED, SUBMITTED, TRIED, Submitted

ROWS = 24
"""Lines that shards take at most; of more, those where nothing is to be said are left out."""
REASONS = 5
_INDENT = 11
_SAID = {
    COMPLETE: "complete",
    FAILED: "failed",
    REFUSED: "refused by its workers",
    SUSPENDED: "suspended",
    DELETING: "being deleted",
    PENDING: "pending",
    RUNNING: "running",
}


def lines(status: Status) -> list[str]:
    """The whole status."""
    said = [headline(status)]
    if status.reason and status.state != COMPLETE:
        said += _part("reason", [status.reason])
    said += _part("units", [_units(status)])
    said += _part("shards", [_shards(status)])
    if status.score is not None:
        said += _part("score", [f"{status.score:.1f}, the mean of the images under way"])
    left = [] if status.seconds_left is None else [f"about {age(status.seconds_left)}"]
    if status.deadline_left is not None:
        left.append("the deadline is over" if status.deadline_left < 0 else f"deadline in {age(status.deadline_left)}")
    said += _part("left", [", ".join(left)] if left else [])
    endings = sorted(status.endings.items(), key=lambda one: -one[1])
    said += _part("pods", [f"{count} {text}" for text, count in endings[:REASONS]])
    if len(endings) > REASONS:
        said += _part("", [f"and {sum(count for _, count in endings[REASONS:])} in other ways"])
    said += _part("why", status.why)
    said += _part("warning", status.warnings)
    said += _part("failed", failures(status))
    rows = list(_rows(status.shards)) if len(status.shards) > 1 else []
    if rows:
        said += ["", *rows]
    said += ["", *_part("results", [status.page or status.output])]
    return said


def headline(status: Status) -> str:
    """Its name, and what it does."""
    how = f" after {age(status.seconds)}" if status.is_over else f" for {age(status.seconds or status.age)}"
    return f"{status.name}: {_SAID[status.state]}{how}, in the namespace {status.namespace}"


def line(status: Status) -> str:
    """The status in one line, for logs."""
    parts = [_SAID[status.state], _units(status), _shards(status)]
    if status.score is not None:
        parts.append(f"score {status.score:.1f}")
    if status.seconds_left is not None:
        parts.append(f"about {age(status.seconds_left)} left")
    endings = [f"{count} {text}" for text, count in status.endings.items()]
    return "; ".join([*parts, *endings, *status.why, *status.warnings])


def failures(status: Status) -> list[str]:
    """Failed units by reason: one line for a thousand that failed for the same one."""
    by_reason: dict[str, list[str]] = {}
    for failure in status.failures:
        by_reason.setdefault(failure.reason, []).append(failure.what)
    said = [
        f"{what[0]}{f' and {len(what) - 1} more' if len(what) > 1 else ''}: {reason}"
        for reason, what in list(by_reason.items())[:REASONS]
    ]
    more = len(by_reason) - REASONS
    return said + ([f"and for {more} more reason{'s' if more > 1 else ''}"] if more > 0 else [])


def table(found: Sequence[Run], now: datetime) -> list[str]:
    """Runs, one a line."""
    if not found:
        return []
    rows = [("RUN", "AGE", "STATE", "SHARDS", "UNITS", "OUTPUT")]
    for run in found:
        last = run.latest
        rows.append(
            (
                last.name,
                age(seconds_since(last.created, now)),
                _SAID[run_state(run)],
                f"{len(last.completed)} of {last.shards}" + (f", {len(last.failed)} failed" if last.failed else ""),
                str(last.units),
                last.output,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return ["  ".join([*(f"{cell:<{w}}" for cell, w in zip(row[:-1], widths, strict=True)), row[-1]]) for row in rows]


def summaries(found: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs for programs."""
    return [
        {
            "name": run.latest.name,
            "run12": run.run12,
            "job": run.latest.job_name,
            "state": run_state(run),
            "created": run.latest.created.isoformat() if run.latest.created else None,
            "shards": run.latest.shards,
            "completed": len(run.latest.completed),
            "failed": len(run.latest.failed),
            "units": run.latest.units,
            "output": run.latest.output,
            "attempts": [attempt.name for attempt in run.attempts],
        }
        for run in found
    ]


def run_state(run: Run) -> str:
    """A run's state as its Job alone tells it."""
    last = run.latest
    if last.outcome is not None:
        return last.outcome.kind
    if last.deleting:
        return DELETING
    return SUSPENDED if last.suspended else RUNNING if last.ready else PENDING


def submission(done: Submitted, where: Sequence[str]) -> list[str]:
    """What a submission came to, and what to type next. where: options that lead to the same cluster and namespace."""
    at = f" {shlex.join(where)}" if where else ""
    outcome = done.attempt.outcome if done.attempt else None
    size = f"{done.units} units in {done.shards} shards, {min(done.parallelism, done.shards)} at a time"
    place = f"in the namespace {done.namespace}"
    said = {
        SUBMITTED: f"submitted {done.name}: {size}, {place}",
        RESUMED: f"submitted {done.name}, which had been cut off: {size}, {place}",
        ATTACHED: f"attached to {done.name}, which is there already: {size}, {place}",
        DONE: f"{done.name}: the results are there already",
        TRIED: f"would submit {done.name}: {size}, {place}; nothing was made",
    }[done.state]
    lines = [said, *done.notes]
    status, pull = f"classmodels status {done.name}{at}", f"classmodels pull {done.gallery} {shlex.quote(done.job)}"
    if done.state == TRIED:
        return lines
    if done.state == DONE:
        return [*lines, f"  {pull}"]
    if outcome is None:
        cancel = f"classmodels cancel {done.name}{at}"
        return [
            *lines,
            f"  {status} --watch",
            f"  classmodels logs {done.name}{at} --follow",
            f"  {cancel}",
            f"  {pull}",
        ]
    lines.append(f"it has ended: {_SAID[outcome.kind]}{f', {outcome.message}' if outcome.message else ''}")
    again = f"classmodels retry {done.name}{at}"
    if outcome.kind == REFUSED:
        again = f"classmodels cancel {done.name}{at}    (once the cause is mended; then submit again)"
    return [*lines, f"  {status}", f"  classmodels logs {done.name}{at}", f"  {again}"]


def ended(attempt: Attempt, last: Status | None, where: Sequence[str]) -> list[str]:
    """What to say and type once a run that was watched is over. last: as it was seen last, None if never."""
    at = f" {shlex.join(where)}" if where else ""
    if last is None or not last.is_over:
        return [f"{attempt.name} is not on the cluster any more: somebody has cancelled it; what is done stays"]
    pull, logs = (
        f"  classmodels pull {last.gallery or last.output} {attempt.job_name}",
        f"  classmodels logs {attempt.name}",
    )
    if last.state == COMPLETE:
        return [pull]
    if last.state == REFUSED:
        return [logs + at, f"  classmodels cancel {attempt.name}{at}    (once the cause is mended; then submit again)"]
    return [logs + at, f"  classmodels retry {attempt.name}{at}", pull]


def cancellation(done: Cancelled, output: str | None) -> list[str]:
    """What was removed, and how to go on."""
    if not done.jobs and not done.config_maps:
        return [f"nothing to cancel: the cluster has no run {done.run12}"]
    said = [
        f"removed {name}, which had ended: {_SAID[outcome.kind]}" if outcome else f"cancelled {name}"
        for name, outcome in done.jobs
    ]
    said += [f"removed the ConfigMap {name}" for name in done.config_maps]
    where = f" in {output}" if output else ""
    return [*said, f"what is done stays{where}; submitting the job again goes on from there"]


def _units(status: Status) -> str:
    lost = len({failure.what for failure in status.failures if failure.is_unit})
    failed = f", {lost} failed" if lost else ""
    if status.done is None:
        return f"{status.units}, nobody knows how many are done{failed}"
    share = f" ({100 * status.done // status.units} %)" if status.units and status.done < status.units else ""
    return f"{status.done} of {status.units} done{share}{failed}"


def _shards(status: Status) -> str:
    counts = [(state, status.count(state)) for state in ("done", FAILED, STOPPED, RUNNING, PENDING, WAITING)]
    said = ", ".join(f"{count} {state}" for state, count in counts if count)
    at_once = min(status.parallelism, len(status.shards))
    return said + (
        f"; {at_once} at a time" if at_once < len(status.shards) and status.state in (RUNNING, PENDING) else ""
    )


def _part(name: str, texts: Iterable[str]) -> list[str]:
    """Lines under a name that stands before the first."""
    return [f"  {name if not at else '':<{_INDENT - 2}}{text}" for at, text in enumerate(texts)]


def _rows(shards: Sequence[Shard]) -> Iterable[str]:
    """The shards, those beside each other of which the same is to be said in one line."""
    rows = []
    for (state, remark), group in groupby(shards, key=lambda shard: (shard.state, _remark(shard))):
        some = list(group)
        rows.append((_span(some), state, _done(some), remark))
    if len(rows) > ROWS:
        kept = [row for row in rows if row[3] or row[1] in (RUNNING, FAILED)][: ROWS - 1]
        left = len(shards) - sum(1 for row in kept)
        rows = [*kept, ("...", f"and {left} more shards", "", "")]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:3], widths, strict=True)]
        yield f"  {'  '.join([*cells, row[3]])}".rstrip()


def _remark(shard: Shard) -> str:
    """What sets a shard apart from others in its state."""
    said = []
    if shard.seconds_left is not None:
        said.append(f"about {age(shard.seconds_left)} left")
    if shard.failed:
        said.append(f"{shard.failed} failed")
    for count, what in ((shard.restarts, "failed and was restarted"), (shard.taken, "was taken away")):
        if count:
            said.append(f"{what} {_times(count)}")
    if shard.interrupted:
        said.append(f"was stopped {_times(shard.interrupted)}")
    if shard.note and (shard.state == STOPPED or (shard.state == FAILED and not shard.failed)):
        said.append(shard.note)
    return ", ".join(said)


def _done(some: Sequence[Shard]) -> str:
    units = [shard.units for shard in some if shard.units is not None]
    done = [shard.done for shard in some if shard.done is not None]
    return f"{sum(done)} of {sum(units)}" if units else ""


def _span(some: Sequence[Shard]) -> str:
    first, last = some[0].index, some[-1].index
    return str(first) if first == last else f"{first}-{last}"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
