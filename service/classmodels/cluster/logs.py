"""What a run's workers have said: from the pods while they are there, else from the store, where workers keep it.

A line is a pair: whose it is, and the text as the worker printed it. `lines.py` makes it readable.
"""

import queue
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from classmodels.cluster.attempts import Attempt, moment
from classmodels.cluster.client import Cluster
from classmodels.cluster.lines import time_of
from classmodels.cluster.objects import CONTAINER, LABEL_JOB_UID
from classmodels.cluster.pods import PENDING, Pod, read_pod
from classmodels.cluster.results import Source, kept_logs
from classmodels.cluster.target import Target
from classmodels.errors import ClusterError, InputError
from classmodels.store import Store

EVERY = 3.0
"""Seconds between two looks for new pods, of a run whose logs are followed."""
AGAIN = 1.0
"""Seconds before a log is asked for again whose connection has ended before its pod did."""
PATIENCE = 900.0
"""Seconds that an API server may be away meanwhile."""
_AGE = re.compile(r"(\d{1,9})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


Line = tuple[Source, str]


def since(text: str) -> float:
    """Seconds of an age such as 45s, 10m, 2h, 1d. Raises InputError."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise InputError(f"--since {text!r}: expected an age such as 45s, 10m, 2h or 1d")
    return float(match[1]) * _SECONDS[match[2]]


def told(target: Target, index: int | None, age: float | None, following: bool) -> Iterator[Line]:
    """What the workers of a run say: of the attempt that is meant, or of all where the cluster has forgotten the run.

    Raises InputError where neither cluster nor store is known to have it, ClusterError, StoreError.
    """
    attempt = target.attempt
    if attempt is None and target.store is not None:
        return kept(target.store, target.run12, index, age)
    attempt = target.require_attempt()
    if following and attempt.outcome is None:
        return follow(attempt, target.cluster, index, age)
    return all_said(attempt, target.cluster, target.store, index, age)


def kept(store: Store, run12: str, index: int | None, age: float | None) -> Iterator[Line]:
    """What workers have put into the store, worker by worker. Raises StoreError."""
    for source, key in sorted(kept_logs(store, f"runs/{run12}/logs/")):
        if index in (None, source.index):
            yield from ((source, line) for line in _lines(store, key, age))


def all_said(
    attempt: Attempt, cluster: Cluster, store: Store | None, index: int | None, age: float | None
) -> Iterator[Line]:
    """What all workers of an attempt have said so far, worker by worker. Raises ClusterError, StoreError."""
    there = dict(kept_logs(store, attempt.logs)) if store else {}
    pods = {_source(pod, attempt) for pod in _pods(attempt, cluster, index)}
    gone = {source for source in there if index in (None, source.index)}
    for source in sorted(gone | pods):
        said, unread = "", None
        try:
            said = cluster.log(source.pod, container=CONTAINER, since=_whole(age)) if source in pods else ""
        except ClusterError as error:
            if error.status < 500:  # else its node does not answer
                raise
            unread = error
        if said:
            yield from ((source, line) for line in said.splitlines())
        elif store is not None and source in there:  # the pod is gone, or its node has thrown its log away
            yield from ((source, line) for line in _lines(store, there[source], age))
        elif unread is not None:
            yield source, str(unread)


def follow(attempt: Attempt, cluster: Cluster, index: int | None, age: float | None) -> Iterator[Line]:
    """What workers say, as they say it, until the Job is over. Raises ClusterError."""
    lines: queue.Queue[Line] = queue.Queue()
    readers: dict[str, threading.Thread] = {}
    look_at, away = 0.0, None
    over = False
    while True:
        if not over and time.monotonic() >= look_at:
            try:
                for pod in _pods(attempt, cluster, index):
                    if pod.name not in readers and pod.state != PENDING:
                        readers[pod.name] = _reader(_source(pod, attempt), cluster, age, lines)
                found = cluster.get("Job", attempt.name)
                over = found is None or Attempt(found).outcome is not None
                away = None
            except ClusterError as error:
                away = away or time.monotonic()
                if not error.passing or time.monotonic() - away > PATIENCE:
                    raise
            look_at = time.monotonic() + EVERY
        try:
            yield lines.get(timeout=0.2)
        except queue.Empty:
            if over and not any(reader.is_alive() for reader in readers.values()):
                return


def _reader(source: Source, cluster: Cluster, age: float | None, lines: "queue.Queue[Line]") -> threading.Thread:
    """A thread that reads one pod's log to its end, also where the connection breaks off in between."""

    def read() -> None:
        last: datetime | None = None
        latest: set[str] = set()  # the lines of that very moment
        behind = _whole(age)
        while True:
            try:
                begin, known = last, frozenset(latest)
                for stamped in cluster.follow_log(source.pod, container=CONTAINER, since=behind):
                    stamp, _, line = stamped.partition(" ")
                    at = moment(stamp)
                    # Where a log is asked for again, what was read before comes again.
                    if at is not None and begin is not None and (at < begin or stamped in known):
                        continue
                    if at is not None:
                        latest = {stamped} if at != last else latest | {stamped}
                        last = at
                    lines.put((source, line))
                pod = cluster.get("Pod", source.pod)
            except ClusterError as error:
                if not error.passing and error.status != 400:  # 400: its container has not begun after all
                    return
                time.sleep(EVERY)
                continue
            if pod is None or read_pod(pod).is_over:
                return
            time.sleep(AGAIN)
            behind = None if last is None else int((datetime.now(UTC) - last).total_seconds()) + 2

    thread = threading.Thread(target=read, name=f"log {source.pod}", daemon=True)
    thread.start()
    return thread


def _source(pod: Pod, attempt: Attempt) -> Source:
    return Source(pod.index, attempt.name, attempt.uid, pod.name)


def _pods(attempt: Attempt, cluster: Cluster, index: int | None) -> list[Pod]:
    found = [read_pod(pod) for pod in cluster.list("Pod", {LABEL_JOB_UID: attempt.uid})]
    return [pod for pod in found if index in (None, pod.index)]


def _lines(store: Store, key: str, age: float | None) -> Iterator[str]:
    earliest = None if age is None else datetime.now(UTC) - timedelta(seconds=age)
    recent = earliest is None
    for line in (store.read(key) or b"").decode(errors="replace").splitlines():
        at = time_of(line)
        recent = recent or (earliest is not None and at is not None and at >= earliest)
        if recent:
            yield line


def _whole(age: float | None) -> int | None:
    return None if age is None else max(1, int(age))
