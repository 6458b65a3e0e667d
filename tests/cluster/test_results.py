"""What the store says of a run under way, where it has many shards: asked side by side, and only for what is new."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classmodels.cluster.results import Results
from classmodels.store import Entry, RunPlan
from classmodels.store.base import Read
from classmodels.store.folder import FolderStore
from classmodels.store.records import ReportedFailure, ShardReport, dump, plan_key, report_key

RUN12 = "0123456789ab"
SHARDS = 40
AT_ONCE = 8


class Counted(FolderStore):
    """A store whose answers wait until `AT_ONCE` questions have been asked together; it counts them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = 0
        self.together: threading.Barrier | None = None

    def _wait(self) -> None:
        self.asked += 1
        if self.together is not None:
            self.together.wait(timeout=20)

    @contextmanager
    def reading(self) -> Iterator[Read]:
        def read(key: str) -> bytes | None:
            self._wait()
            return self.read(key)

        yield read

    def entries(self, prefix: str) -> Iterator[Entry]:
        if prefix.startswith("units/"):
            self._wait()
        return super().entries(prefix)


def run(folder: Path) -> Counted:
    """A store with a run of a unit in each shard, each of a recipe of its own; all are reported as failed."""
    store = Counted(folder)
    records = tuple(f"units/tiny@0/r{at:04}@0/0000.json" for at in range(SHARDS))
    plan = RunPlan(job="tiny", run12=RUN12, records=records, judges=())
    store.write(plan_key(RUN12), dump(plan))
    for at in range(SHARDS):
        failed = ReportedFailure(what=f"tiny/{at}", reason="no", record=records[at])
        counts = {"units": 1, "done": 0, "already": 0, "verdicts": 0, "seconds": 1.0}
        report = ShardReport(run12=RUN12, index=at, shards=SHARDS, failed=(failed,), **counts)
        store.write(report_key(RUN12, at, SHARDS), dump(report))
    return store


def test_folders_are_listed_and_reports_read_side_by_side(tmp_path: Path) -> None:
    store = run(tmp_path)
    store.together = threading.Barrier(AT_ONCE)
    look = Results(store, RUN12, SHARDS).look()
    assert [failure.shard for failure in look.failures] == list(range(SHARDS))
    assert store.asked == 2 * SHARDS


def test_a_report_that_is_known_is_not_read_again(tmp_path: Path) -> None:
    store = run(tmp_path)
    results = Results(store, RUN12, SHARDS)
    first = results.look()
    asked = store.asked
    again = results.look()
    assert again.failures == first.failures
    assert store.asked == asked + SHARDS  # the folders, where something may be done by now
