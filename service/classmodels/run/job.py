"""A whole job on one machine: the ascent, the panel, the gallery; and what there is to tell afterwards."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from classmodels.gallery import write_gallery
from classmodels.job.plan import Plan, Unit
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.units import Failure, Tally, do_units
from classmodels.run.verdicts import judge_all
from classmodels.store import RunPlan, Store
from classmodels.store.records import JudgeEntry, dump, plan_key


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
) -> Report:
    """Do the wanted units of the plan, have them judged, write the gallery. Running again does only what is missing.

    Raises StoreError. On KeyboardInterrupt `tally` says what is done; all of that is kept.
    """
    began = time.monotonic()
    write_plan(plan, store)
    for model, reason in plan.job.broken.items():
        if not plan.job.classes[model]:  # `classes: all` of a network that cannot tell how many it has
            tally.failures.append(Failure(f"model {model}", reason))
    do_units([unit for unit in plan.units if wanted(unit)], plan.job.job.animation, store, machine, progress, tally)
    verdicts = judge_all(plan, store, machine, progress, tally)
    page = write_gallery(store, run_plan(plan))
    return Report(
        run12=plan.run12,
        units=len(plan.units),
        done=tally.done,
        already=tally.already,
        verdicts=verdicts,
        failures=tuple(tally.failures),
        page=page,
        seconds=time.monotonic() - began,
    )


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


def write_plan(plan: Plan, store: Store) -> None:
    """Put the plan where the gallery is rebuilt from; also the first proof that the store can be written to."""
    data = dump(run_plan(plan))
    if store.read(plan_key(plan.run12)) != data:
        store.write(plan_key(plan.run12), data)
