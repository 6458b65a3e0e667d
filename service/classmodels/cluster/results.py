"""What the store says of a run that is under way: units done, shard by shard, and what its workers gave up on.

For many looks in a row: what is there stays there, so a model's units that are all done are not listed again.
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from classmodels.cluster.attempts import Attempt
from classmodels.job.plan import part
from classmodels.store import Entry, RunPlan, Store
from classmodels.store.records import ShardReport, gallery_prefix, parse, plan_key, report_key, report_prefix

_LOG = re.compile(r"logs/(?P<job>[^/@]+)(?:@(?P<uid>[^/]+))?/(?P<index>\d{1,5})\.(?P<pod>[^/]+)\.jsonl$")
READERS = 32
"""Reports of shards that are read at once."""
SKEW = timedelta(seconds=10)
"""How much the clocks of the store and of the cluster may differ."""


@dataclass(frozen=True)
class Failure:
    """A unit, or a judge, that a worker gave up on. shard: whose it is; reason: as the worker has said it."""

    what: str
    reason: str
    shard: int
    is_unit: bool


@dataclass
class Look:
    """What one look has found. done, units: by shard; fresh: units done since the attempt began.

    pods: whose logs are there, of the attempt that was asked for, with their index. page: where the gallery is, None
    before it is written. missing: the store knows nothing of the run.
    """

    done: list[int] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    fresh: int = 0
    failures: list[Failure] = field(default_factory=list)
    pods: dict[str, int] = field(default_factory=dict)
    page: str | None = None
    missing: bool = False


@dataclass(frozen=True, order=True)
class Source:
    """A pod that says something, or has; of the Job `job`, whose uid is empty where it was no Job."""

    index: int
    job: str
    uid: str
    pod: str


def kept_logs(store: Store, prefix: str) -> Iterator[tuple[Source, str]]:
    """Whose logs the store has below `prefix`, each with its key."""
    for key in store.list(prefix):
        if match := _LOG.search(key):
            yield Source(int(match["index"]), match["job"], match["uid"] or "", match["pod"]), key


class Results:
    """The results of one run in `store`, done in `shards` parts."""

    def __init__(self, store: Store, run12: str, shards: int) -> None:
        self.store, self.run12, self.shards = store, run12, shards
        self._plan: RunPlan | None = None
        self._there: dict[str, dict[str, datetime]] = {}
        self._complete: set[str] = set()
        self._reports: dict[Entry, ShardReport | None] = {}

    def look(self, attempt: Attempt | None = None) -> Look:
        """attempt: whose pods, failures and speed are wanted; those of all where it is None. Raises StoreError."""
        since = attempt.created if attempt else None
        if self._plan is None:
            self._plan = parse(RunPlan, self.store.read(plan_key(self.run12)) or b"")
        if self._plan is None:
            return Look(missing=True)
        there = self._records(self._plan)
        look = Look()
        for shard in range(self.shards):
            records = part(self._plan.records, shard, self.shards)
            look.units.append(len(records))
            look.done.append(sum(record in there for record in records))
        if since is not None:
            look.fresh = sum(there[record] >= since for record in self._plan.records if record in there)
        look.failures = self._failures(there, since)
        if attempt is not None:
            look.pods = {one.pod: one.index for one, _ in kept_logs(self.store, attempt.logs)}
        page = gallery_prefix(self._plan.job, self.run12) + "index.html"
        if sum(look.done) + len(look.failures) >= len(self._plan.records) and next(self.store.list(page), None):
            look.page = self.store.locate(page)
        return look

    @property
    def gallery(self) -> str | None:
        """What `pull` brings: the run's own gallery; None before the plan is known."""
        return self.store.locate(gallery_prefix(self._plan.job, self.run12).rstrip("/")) if self._plan else None

    def _records(self, plan: RunPlan) -> Mapping[str, datetime]:
        """The plan's records that are there, and since when."""
        wanted: dict[str, set[str]] = {}
        for record in plan.records:
            wanted.setdefault(record.rpartition("/")[0] + "/", set()).add(record)
        for folder, records in wanted.items():
            if folder in self._complete:
                continue
            self._there[folder] = {e.key: e.modified for e in self.store.entries(folder) if e.key in records}
            if len(self._there[folder]) == len(records):
                self._complete.add(folder)
        return {record: at for found in self._there.values() for record, at in found.items()}

    def _failures(self, there: Mapping[str, datetime], since: datetime | None) -> list[Failure]:
        """What workers have reported since then, and nobody has done after all."""
        expected = {report_key(self.run12, shard, self.shards): shard for shard in range(self.shards)}
        # One that is older is an earlier attempt's, whose worker has not come to it again.
        reports = [
            entry
            for entry in self.store.entries(report_prefix(self.run12))
            if entry.key in expected and (since is None or entry.modified >= since - SKEW)
        ]
        new = [entry for entry in reports if entry not in self._reports]
        with self.store.reading() as read, ThreadPoolExecutor(READERS, "reports") as threads:
            for entry, data in zip(new, threads.map(read, [entry.key for entry in new]), strict=True):
                self._reports[entry] = parse(ShardReport, data or b"")
        found = [
            Failure(one.what, one.reason, expected[entry.key], one.record is not None)
            for entry in reports
            if (report := self._reports[entry]) is not None
            for one in report.failed
            if one.record not in there
        ]
        return sorted(found, key=lambda one: one.shard)
