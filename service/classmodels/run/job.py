"""A whole job on one machine: the ascent, the panel, the gallery; and what there is to tell afterwards."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from classmodels.gallery.page import PAGE, is_whole, pointer, shown, write_gallery
from classmodels.job.plan import Plan, Unit
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.units import do_units
from classmodels.run.upload import Failure, Tally
from classmodels.run.verdicts import judge_all
from classmodels.store import RunPlan, Store
from classmodels.store.believed import read_believed, read_record
from classmodels.store.patient import PatientStore
from classmodels.store.records import JudgeEntry, dump, gallery_prefix, latest_key, plan_key


@dataclass(frozen=True)
class Report:
    """What a run did. `page` is the key of the gallery's page; `exit_code` is 0, 2 or 3 as the command ends."""

    run12: str
    units: int
    done: int
    already: int
    verdicts: int
    failures: tuple[Failure, ...]
    page: str
    seconds: float

    @property
    def exit_code(self) -> int:
        if not self.failures:
            return 0
        nothing_done = self.done + self.already == 0
        return 2 if nothing_done and all(failure.job_is_wrong for failure in self.failures) else 3


def run_job(
    plan: Plan,
    store: Store,
    machine: Machine,
    progress: Quiet,
    tally: Tally,
    wanted: Callable[[Unit], bool] = lambda unit: True,
    interval: float = INTERVAL,
) -> Report:
    """Do the wanted units of the plan, have them judged, write the gallery. Running again does only what is missing.

    interval: seconds between two saved states of the batch under way. Once the store has been reached it is given time
    where it fails in passing. Raises StoreError. On KeyboardInterrupt `tally` says what is done; all of that is kept.
    """
    began = time.monotonic()
    for model, reason in plan.job.broken.items():
        if not plan.job.classes[model]:  # `classes: all` of a network that cannot tell how many it has
            tally.fail(Failure(f"model {model}", reason))
    working = Working(plan, store, machine, progress, tally, interval)
    working.do([unit for unit in plan.units if wanted(unit)], plan.units)
    return Report(
        run12=plan.run12,
        units=len(plan.units),
        done=tally.done,
        already=tally.already,
        verdicts=working.verdicts,
        failures=tuple(tally.failures),
        page=working.page(tally.finished, tally.judged),
        seconds=time.monotonic() - began,
    )


class Working:
    """What a whole run and a worker's share of one have in common: `do` units, and then maybe the `page`."""

    def __init__(
        self, plan: Plan, store: Store, machine: Machine, progress: Quiet, tally: Tally, interval: float
    ) -> None:
        """Writes the plan, the first proof that the store can be written to. Raises StoreError."""
        self.plan, self.machine, self.progress, self.tally, self.interval = plan, machine, progress, tally, interval
        self.summary = run_plan(plan)
        write_plan(self.summary, store)
        self._reached = store
        self.store = PatientStore(store)
        self._shown = shown(self.store, self.summary)
        self.verdicts = 0
        """How many were given."""

    def do(self, units: Sequence[Unit], judged: Sequence[Unit]) -> None:
        """Do those of `units` that are not done, and have the finished ones of `judged` judged."""
        do_units(
            units,
            self.plan.job.job.animation,
            self.store,
            self.machine,
            self.progress,
            self.tally,
            damaged(units, self.store) if self._count("damaged") else frozenset(),
            prove=lambda: self._reached.write(plan_key(self.summary.run12), dump(self.summary)),
            interval=self.interval,
        )
        self.verdicts = judge_all(judged, self.plan.job.panel, self.store, self.machine, self.progress, self.tally)

    def page(self, finished: int, judged: int) -> str:
        """The key of the run's page. It is written unless nothing was done, it shows so many units and verdicts, and is
        whole: a process that was killed may have left more than it has shown."""
        nothing_new = (
            not self.tally.done
            and not self.verdicts
            and self._count("done") + self._count("damaged") == finished
            and self._count("verdicts") + self._count("verdicts_damaged") == judged
            and read_believed(self.store.read, latest_key(self.summary.job)) == pointer(self.summary.run12)
            and is_whole(self.store, self.summary, self._shown)
        )
        if nothing_new:
            return gallery_prefix(self.summary.job, self.summary.run12) + PAGE
        return write_gallery(self.store, self.summary)

    def _count(self, what: str) -> int:
        """How many of these the run's page says it shows."""
        counts = self._shown.get("counts")
        count = counts.get(what) if isinstance(counts, dict) else None
        return count if isinstance(count, int) else 0


def damaged(units: Sequence[Unit], store: Store) -> frozenset[str]:
    """Keys of those records of `units` that are not there, or that cannot be believed."""
    keys = [unit.record_key for unit in units]
    return frozenset(key for key in keys if read_record(store.read, key) is None)


def run_plan(plan: Plan) -> RunPlan:
    """What the store keeps of a plan: enough to rebuild its gallery."""
    return RunPlan(
        job=plan.job.job.name,
        run12=plan.run12,
        records=tuple(unit.record_key for unit in plan.units),
        judges=tuple(
            JudgeEntry(
                name=judge.model.spec.name,
                model12=judge.model.model12,
                judge12=judge.judge12,
                family=judge.model.family,
            )
            for judge in plan.job.panel
        ),
    )


def write_plan(summary: RunPlan, store: Store) -> None:
    """Put the plan where the gallery is rebuilt from; also the first proof that the store can be written to."""
    data = dump(summary)
    if read_believed(store.read, plan_key(summary.run12)) != data:
        store.write(plan_key(summary.run12), data)
