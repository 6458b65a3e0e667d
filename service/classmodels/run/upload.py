"""Finished units on their way into the store, while the next batch ascends.

At most one batch waits to be encoded and written; the ascent waits rather than to pile up more. What fails in passing
is tried again (`PatientStore`); a unit that still cannot be written fails alone, unless the store takes nothing at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

from classmodels.errors import StoreError
from classmodels.job.plan import Unit
from classmodels.models.user_code import first_line
from classmodels.run.background import Background
from classmodels.run.batch import Summit
from classmodels.run.machine import available_cpus
from classmodels.run.numerics import Choice
from classmodels.run.publish import Publisher
from classmodels.store import Store
from classmodels.store.believed import read_record

FEWEST, MOST = 2, 8
"""Threads: one for each processor, within these bounds. Encoding takes processors, a bucket takes patience."""


@dataclass(frozen=True)
class Failure:
    """A unit that was not done, or a judge that did not judge, and why.

    record: the key that the unit's record would have. job_is_wrong: the job itself is to blame. passing: the same may
    well succeed at another time or place. for_good: the unit would fail again however often it was done.
    """

    what: str
    reason: str
    record: str | None = None
    job_is_wrong: bool = False
    passing: bool = False
    for_good: bool = False


@dataclass
class Tally:
    """What became of the units of a plan. complete: what a listing of each task said of which all units were done.

    finished: units that have a record; judged: verdicts on them that are there; both are known once the panel has had
    its turn. heard: told of each failure at once, in whatever thread it was met.
    """

    done: int = 0
    already: int = 0
    finished: int = 0
    judged: int = 0
    failures: list[Failure] = field(default_factory=list)
    complete: dict[str, list[str]] = field(default_factory=dict)
    heard: Callable[[Failure], None] = lambda failure: None

    def fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.heard(failure)


@dataclass
class _Batch:
    """A batch that was handed over. complete: no unit so far that another run would do."""

    left: int
    forget: Callable[[], None]
    complete: bool = True


class Uploads:
    """`hand_over` batches, `make_room` before the next, `wait` before anybody looks at the results."""

    def __init__(self, store: Store, tally: Tally, prove: Callable[[], None]) -> None:
        """prove: writes something that could be written before; raises StoreError where that fails too."""
        self._store, self._tally, self._prove = store, tally, prove
        self._lock = Lock()
        self._background = Background("upload", max(FEWEST, min(available_cpus(), MOST)))
        self.hopeless: set[str] = set()
        """Keys of the records of units that would fail again however often they were done."""

    def hand_over(
        self, publisher: Publisher, choice: Choice, finished: Sequence[tuple[Unit, Summit]], forget: Callable[[], None]
    ) -> None:
        """Have a batch encoded and written; `forget` is called once no other run would have to do any of its units."""
        batch = _Batch(len(finished), forget)
        for unit, summit in finished:
            if summit.failed:
                reason = "its score or its gradient is not finite (NaN or infinity)"
                self._settle(unit, batch, reason, hopeless=True)
            else:
                self._background.submit(partial(self._publish, publisher, choice, unit, summit, batch))

    def make_room(self, batch: int, meanwhile: Callable[[], None]) -> None:
        """Wait until at most `batch` units are under way. meanwhile: see `Background.wait`."""
        self._background.wait(most=batch, meanwhile=meanwhile)

    def check(self) -> None:
        """Raises StoreError where the store takes nothing any more: going on would only waste the work."""
        self._background.check()

    def wait(self, seconds: float | None = None) -> bool:
        """Until all is written, or has failed; False where `seconds` are too few. Raises StoreError as `check` does."""
        return self._background.wait(seconds=seconds)

    def close(self) -> None:
        self._background.close()

    def _publish(self, publisher: Publisher, choice: Choice, unit: Unit, summit: Summit, batch: _Batch) -> None:
        try:
            objects = publisher.objects(unit, summit, choice)
        except Exception as error:
            self._settle(unit, batch, f"its results cannot be encoded: {first_line(error)}", hopeless=True)
            return
        try:
            self._write(unit, objects)
        except StoreError as error:
            if error.full:
                raise
            self._prove()
            self._settle(unit, batch, str(error), passing=error.passing)
        else:
            self._settle(unit, batch)

    def _write(self, unit: Unit, objects: dict[str, bytes]) -> None:
        """Write a unit, its record last. The first record stays: verdicts and pages may be about its image already."""
        *files, (record_key, record) = objects.items()
        for key, data in files:
            self._store.write(key, data)
        if self._store.create(record_key, record):
            return
        found = read_record(self._store.read, record_key)
        if found is None:
            self._store.write(record_key, record)
            return
        theirs = {unit.task.prefix + file.name for file in (found.image, found.animation) if file}
        for key, _ in files:
            if key not in theirs:  # somebody else has done the unit meanwhile, on other numerics
                self._store.delete(key)

    def _settle(
        self, unit: Unit, batch: _Batch, reason: str | None = None, *, hopeless: bool = False, passing: bool = False
    ) -> None:
        with self._lock:
            if reason is None:
                self._tally.done += 1
            else:
                self._tally.fail(Failure(str(unit), reason, unit.record_key, passing=passing, for_good=hopeless))
            if hopeless:
                self.hopeless.add(unit.record_key)
            batch.complete &= reason is None or hopeless
            batch.left -= 1
            if batch.left == 0 and batch.complete:
                batch.forget()
