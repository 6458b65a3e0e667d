"""How a run on a cluster goes: its Job, its pods and the store looked at together, as one `Status`.

`Observer.look` is one look. Where one of the sources cannot be read the others are told all the same, and `warnings`
says so; only the Job itself must be had. `shown.py` puts a status on the screen, `watch.py` looks again and again.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from classmodels.cluster.answers import plain
from classmodels.cluster.attempts import COMPLETE, EXIT_CODES, Attempt, age, seconds_since
from classmodels.cluster.client import Cluster
from classmodels.cluster.lines import Event, last_event, number
from classmodels.cluster.objects import CONTAINER, LABEL_JOB_UID
from classmodels.cluster.pods import DONE, FAILED, INTERRUPTED, PENDING, RUNNING, TAKEN, Pod, read_pod
from classmodels.cluster.results import Failure, Look, Results
from classmodels.cluster.waiting import why_no_pods, why_pending, why_suspended
from classmodels.errors import ClusterError, StoreError

WAITING, STOPPED = "waiting", "stopped"
SUSPENDED, DELETING = "suspended", "deleting"
STUCK = 60.0
"""Seconds beyond its grace after which a pod that should be gone is worth a word."""
TAIL = 20
READERS = 8
MOST_LOGS = 32
"""Running pods whose logs are read in one look; of more, others are read the next time."""


@dataclass(frozen=True)
class Shard:
    """One completion index. state: WAITING for its turn, PENDING, RUNNING, DONE, FAILED; STOPPED, with all the run.

    restarts: pods that failed, of all that it has had; taken: those that the cluster took away; interrupted: those that
    were stopped. note: of its pod now, or how the last one ended.
    """

    index: int
    state: str
    units: int | None
    done: int | None
    failed: int
    restarts: int
    taken: int
    interrupted: int
    pod: str | None
    note: str
    seconds_left: float | None = None


@dataclass(frozen=True)
class Status:
    """A run at one moment. state: SUSPENDED, PENDING, RUNNING, DELETING, or how it ended: an `Outcome`'s kind.

    done, units: of the whole run; done is None where the store cannot be read. why: each reason for which nothing, or
    not all, goes on. endings: how pods have ended that did not succeed, each with how often. score: mean raw class
    score of the images under way.
    """

    name: str
    run12: str
    job: str
    attempt: int
    namespace: str
    output: str
    state: str
    reason: str
    units: int
    done: int | None
    failures: tuple[Failure, ...]
    shards: tuple[Shard, ...]
    parallelism: int
    why: tuple[str, ...]
    endings: dict[str, int]
    score: float | None
    seconds_left: float | None
    seconds: float
    age: float
    deadline_left: float | None
    page: str | None
    gallery: str | None
    warnings: tuple[str, ...]

    def count(self, state: str) -> int:
        """How many shards are in that state."""
        return sum(shard.state == state for shard in self.shards)

    @property
    def is_over(self) -> bool:
        return self.state in EXIT_CODES


@dataclass
class Observer:
    """Looks at one run again and again. results: None where its store cannot even be named."""

    cluster: Cluster
    results: Results | None
    gone: dict[str, int] = field(default_factory=dict)
    """Pods that were seen and are not there any more, with their index: the cluster deletes what it preempts."""
    _seen: dict[str, int] = field(default_factory=dict)
    _turn: int = 0
    _look: Look | None = None

    def look(self, attempt: Attempt, *, with_store: bool = True) -> Status:
        """How the run goes now; `attempt` is its Job as it was just read. Raises ClusterError.

        with_store: False to tell again what the store said last.
        """
        now = datetime.now(UTC)
        warnings: list[str] = []
        pods = [read_pod(pod) for pod in self.cluster.list("Pod", {LABEL_JOB_UID: attempt.uid})]
        look = self._results(attempt, warnings, with_store)
        self._note_gone(attempt, pods, look)
        events = self._events(pods, warnings) if attempt.outcome is None else {}
        outcome = attempt.outcome
        shards = tuple(self._shard(index, attempt, pods, look, events) for index in range(attempt.shards))
        warnings += _stuck(pods, now)
        done = sum(look.done) if look is not None and not look.missing else None
        started = attempt.started
        until = outcome.at if outcome is not None and outcome.at is not None else now
        return Status(
            name=attempt.name,
            run12=attempt.run12,
            job=attempt.job_name,
            attempt=attempt.number,
            namespace=self.cluster.namespace,
            output=attempt.output,
            state=_state(attempt, shards),
            reason=outcome.message if outcome is not None else "",
            units=attempt.units,
            done=done,
            failures=tuple(look.failures) if look is not None else (),
            shards=shards,
            parallelism=attempt.parallelism,
            why=self._why(attempt, pods, now),
            endings=_endings(pods, len(self.gone)),
            score=_mean([number(event.get("score")) for event in events.values()]),
            seconds_left=None if outcome else _seconds_left(attempt, shards, look, now),
            seconds=seconds_since(started, until) if started else 0.0,
            age=seconds_since(attempt.created, now),
            deadline_left=_deadline(attempt, now) if outcome is None else None,
            page=look.page if look is not None else None,
            gallery=self.results.gallery if self.results is not None else None,
            warnings=tuple(warnings),
        )

    def _note_gone(self, attempt: Attempt, pods: Sequence[Pod], look: Look | None) -> None:
        """Pods that were seen, or have left a log, and are not there: unless the Job controller has ended them."""
        outcome = attempt.outcome
        if outcome is None or outcome.kind == COMPLETE or outcome.reason == "FailedIndexes":
            there = {pod.name for pod in pods}
            known = self._seen | (look.pods if look is not None else {})
            self.gone |= {name: index for name, index in known.items() if name not in there}
        self._seen = {pod.name: pod.index for pod in pods}

    def _results(self, attempt: Attempt, warnings: list[str], with_store: bool) -> Look | None:
        if self.results is None:
            return None
        if with_store:
            try:
                self._look = self.results.look(attempt)
            except StoreError as error:
                warnings.append(f"the store cannot be read, so what is done may be more: {error}")
        return self._look

    def _events(self, pods: Sequence[Pod], warnings: list[str]) -> dict[str, Event]:
        """The last event of progress of each running pod, by its name."""
        running = [pod.name for pod in pods if pod.state == RUNNING]
        if len(running) > MOST_LOGS:
            self._turn = (self._turn + MOST_LOGS) % len(running)
            running = (running + running)[self._turn : self._turn + MOST_LOGS]

        def read(name: str) -> Event | ClusterError | None:
            try:
                return last_event(self.cluster.log(name, container=CONTAINER, tail=TAIL).splitlines(), "progress")
            except ClusterError as error:
                return error

        with ThreadPoolExecutor(READERS, "logs") as threads:
            found = dict(zip(running, threads.map(read, running), strict=True))
        errors = [error for error in found.values() if isinstance(error, ClusterError)]
        if errors and len(errors) == len(found):  # some nodes that do not answer are told of by their pods
            warnings.append(f"the workers' logs cannot be read, so score and time left are unknown: {errors[0]}")
        return {name: event for name, event in found.items() if isinstance(event, Mapping)}

    def _shard(
        self, index: int, attempt: Attempt, pods: Sequence[Pod], look: Look | None, events: dict[str, Event]
    ) -> Shard:
        mine = sorted((pod for pod in pods if pod.index == index), key=lambda pod: pod.created or datetime.min)
        over = [pod for pod in mine if pod.is_over]
        live = next((pod for pod in mine if not pod.is_over), None)
        failed = sum(failure.shard == index for failure in look.failures) if look is not None else 0
        if index in attempt.completed:
            state, shown = DONE, next((pod for pod in over if pod.state == DONE), None)
        elif index in attempt.failed:
            state, shown = FAILED, over[-1] if over else None
        elif attempt.outcome is not None:
            state, shown = STOPPED, over[-1] if over else None
        elif live is not None:
            state, shown = live.state, live
        else:
            state, shown = WAITING, over[-1] if over else None
        known = look is not None and index < len(look.units)
        event = events.get(live.name) if live is not None else None
        return Shard(
            index=index,
            state=state,
            units=look.units[index] if look is not None and known else None,
            done=look.done[index] if look is not None and known else None,
            failed=failed,
            restarts=sum(pod.state == FAILED for pod in over) - (state == FAILED),
            taken=sum(pod.state == TAKEN for pod in over) + sum(at == index for at in self.gone.values()),
            interrupted=sum(pod.state == INTERRUPTED for pod in over),
            pod=shown.name if shown is not None else None,
            note="" if state == DONE or shown is None else shown.note,
            seconds_left=number(event.get("seconds_left")) if event is not None else None,
        )

    def _why(self, attempt: Attempt, pods: Sequence[Pod], now: datetime) -> tuple[str, ...]:
        if attempt.outcome is not None or attempt.deleting:
            return ()
        if attempt.suspended:
            return (why_suspended(attempt, self.cluster),)
        for failing in attempt.conditions("FailureTarget"):
            return (f"it has failed, and waits for its pods to end: {plain(str(failing.get('message') or ''))}",)
        if all(pod.is_over for pod in pods) and seconds_since(attempt.started, now) > 5:
            return (why_no_pods(attempt, self.cluster),)
        some = why_pending(pods, now, self.cluster)
        return tuple(f"{count} pod{'s' if count > 1 else ''}: {note}" for count, note in some)


def _state(attempt: Attempt, shards: Sequence[Shard]) -> str:
    if attempt.outcome is not None:
        return attempt.outcome.kind
    if attempt.deleting:
        return DELETING
    if attempt.suspended:
        return SUSPENDED
    return RUNNING if any(shard.state == RUNNING for shard in shards) else PENDING


def _endings(pods: Sequence[Pod], gone: int) -> dict[str, int]:
    """How often pods ended in each way that is no success."""
    found: dict[str, int] = {}
    for pod in pods:
        if pod.is_over and pod.state != DONE:
            text = f"{pod.state}: {pod.note}"
            found[text] = found.get(text, 0) + 1
    return found | ({f"{TAKEN}: deleted, as when a pod is preempted or its node drained": gone} if gone else {})


def _stuck(pods: Sequence[Pod], now: datetime) -> list[str]:
    """Pods that should be gone by now: with this failure policy nobody takes their place before they are."""
    return [
        f"pod {pod.name} is terminating for {age(seconds_since(pod.asked_to_end, now))}"
        + (f" on {pod.node}, which may be unreachable" if pod.node else "")
        + f"; its shard waits for it{_release(pod.node)}"
        for pod in pods
        if pod.ends is not None and not pod.is_over and seconds_since(pod.ends, now) > STUCK
    ]


def _release(node: str) -> str:
    """How to end the wait for a pod on a node that will not come back: the pod's own deletion would not.

    https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown
    """
    if not node:
        return ""
    taint = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
    return f": once the node is off for good, kubectl delete node {node}, or kubectl taint nodes {node} {taint}"


def _seconds_left(attempt: Attempt, shards: Sequence[Shard], look: Look | None, now: datetime) -> float | None:
    """Until the run is done: what the workers say of their shares, and at their speed for those that wait."""
    if attempt.suspended or look is None or look.missing:
        return None
    left = {
        shard.index: (shard.units or 0) - (shard.done or 0) for shard in shards if shard.state not in (DONE, FAILED)
    }
    told = {
        shard.index: shard.seconds_left for shard in shards if shard.seconds_left is not None and shard.index in left
    }
    speeds = [seconds / left[index] for index, seconds in told.items() if left[index] > 0]
    if speeds:
        each = sum(speeds) / len(speeds)
    elif look.fresh and (running := sum(shard.state == RUNNING for shard in shards)):
        each = seconds_since(attempt.started, now) * running / look.fresh
    else:
        return None
    work = [told.get(index, count * each) for index, count in left.items()]
    return max([sum(work) / max(1, attempt.parallelism), *told.values()], default=0.0)


def _deadline(attempt: Attempt, now: datetime) -> float | None:
    if attempt.deadline is None or attempt.started is None:
        return None
    return attempt.deadline - seconds_since(attempt.started, now)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
