"""One worker's share of a plan: its units, the verdicts on them, its report; and the page, once the whole plan is done.

Workers know of each other by what lies in the store alone. Whoever ends last finds everything there and writes the
page; so may two at once, or one again: it is a function of the store.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from classmodels.job.plan import Plan, Unit, by_task
from classmodels.run.job import Working
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.upload import Failure, Tally
from classmodels.run.verdicts import answers_of, find_finished
from classmodels.store import Store
from classmodels.store.believed import read_as
from classmodels.store.records import ReportedFailure, ShardReport, dump, report_key, report_prefix


@dataclass(frozen=True)
class Share:
    """The part of `plan` that the worker of completion index `index` does."""

    plan: Plan
    index: int
    shards: int

    @property
    def units(self) -> tuple[Unit, ...]:
        return self.plan.shard(self.index, self.shards)


@dataclass(frozen=True)
class Ended:
    """What came of a share. page: the key of the gallery's page; None as long as other workers have units to do."""

    verdicts: int
    failures: tuple[Failure, ...]
    page: str | None

    @property
    def exit_code(self) -> int:
        """4 where another attempt may help: a cluster then starts one; else 3 where units failed."""
        if any(failure.passing for failure in self.failures):
            return 4
        return 3 if self.failures else 0


def do_share(
    share: Share, store: Store, machine: Machine, progress: Quiet, tally: Tally, interval: float = INTERVAL
) -> Ended:
    """Do what of `share` is not done. Raises StoreError, MachineError; KeyboardInterrupt as `run_job` does."""
    began = time.monotonic()
    plan, units = share.plan, share.units
    working = Working(plan, store, machine, progress, tally, interval)
    store = working.store
    key = report_key(plan.run12, share.index, share.shards)
    store.delete(key)  # that of an earlier attempt: what it gave up is being tried again
    for model, reason in plan.job.broken.items():
        if not plan.job.classes[model] and share.index == 0:  # it has no units, of which it would be told otherwise
            tally.fail(Failure(f"model {model}", reason))
    working.do(units, units)
    report = ShardReport(
        run12=plan.run12,
        index=share.index,
        shards=share.shards,
        units=len(units),
        done=tally.done,
        already=tally.already,
        verdicts=working.verdicts,
        failed=tuple(
            ReportedFailure(what=one.what, reason=one.reason, record=one.record, for_good=one.for_good)
            for one in tally.failures
        ),
        seconds=round(time.monotonic() - began, 3),
    )
    store.write(key, dump(report))
    found = find_everything(plan, share.shards, store)
    page = working.page(*found) if found is not None else None
    return Ended(working.verdicts, tuple(tally.failures), page)


def find_everything(plan: Plan, shards: int, store: Store) -> tuple[int, int] | None:
    """How many units of the plan are done, and how many verdicts there are; None while there are more to come.

    What a worker has reported that it could not do is not waited for.
    """
    reports = _Reports(plan, shards, store)
    shard_of = {unit.record_key: index for index in range(shards) for unit in plan.shard(index, shards)}
    # The tasks that somebody is at first: mostly one look is enough.
    tasks = sorted(
        by_task(plan.units), key=lambda one: all(shard_of[unit.record_key] in reports.there for unit in one[1])
    )
    finished_units = verdicts = 0
    for task, units in tasks:
        finished = list(find_finished(task, units, store.list(task.prefix)))
        done = {one.unit.record_key for one in finished}
        missing = [unit for unit in units if unit.record_key not in done]
        if not reports.excuse(shard_of[unit.record_key] for unit in missing):
            return None
        finished_units += len(finished)
        for judge in plan.job.panel:
            silent = answers_of(judge, finished, store).missing
            if not reports.excuse(shard_of[unit.record_key] for unit in silent):
                return None
            verdicts += len(finished) - len(silent)
    return finished_units, verdicts


class _Reports:
    """What the workers of a plan have reported. there: the indices of those that have."""

    def __init__(self, plan: Plan, shards: int, store: Store) -> None:
        self._keys = {report_key(plan.run12, index, shards): index for index in range(shards)}
        self._store = store
        self.there = {self._keys[key]: key for key in store.list(report_prefix(plan.run12)) if key in self._keys}
        self._failed: dict[int, bool] = {}

    def excuse(self, indices: Iterable[int]) -> bool:
        """Whether all these shards have ended, and have said that something of them failed."""
        return all(self._has_failed(index) for index in set(indices))

    def _has_failed(self, index: int) -> bool:
        if index not in self._failed:
            report = read_as(ShardReport, self._store.read, self.there[index]) if index in self.there else None
            self._failed[index] = report is not None and bool(report.failed)
        return self._failed[index]
