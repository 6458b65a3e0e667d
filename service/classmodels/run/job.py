"""A whole job on one machine: the ascent, the panel, the gallery; and what there is to tell afterwards."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from classmodels.gallery import write_gallery
from classmodels.job.plan import Plan, Unit
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.units import do_units
from classmodels.run.upload import Failure, Tally
from classmodels.run.verdicts import judge_all
from classmodels.store import RunPlan, Store
from classmodels.store.believed import record_of
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
    summary = run_plan(plan)
    write_plan(summary, store)
    reached, store = store, PatientStore(store)
    for model, reason in plan.job.broken.items():
        if not plan.job.classes[model]:  # `classes: all` of a network that cannot tell how many it has
            tally.failures.append(Failure(f"model {model}", reason))
    units = [unit for unit in plan.units if wanted(unit)]
    do_units(
        units,
        plan.job.job.animation,
        store,
        machine,
        progress,
        tally,
        damaged(summary, store),
        prove=lambda: reached.write(plan_key(summary.run12), dump(summary)),
        interval=interval,
    )
    verdicts = judge_all(plan, store, machine, progress, tally)
    nothing_new = tally.done == 0 and verdicts == 0
    page = current_page(store, summary) if nothing_new else None
    return Report(
        run12=plan.run12,
        units=len(plan.units),
        done=tally.done,
        already=tally.already,
        verdicts=verdicts,
        failures=tuple(tally.failures),
        page=page or write_gallery(store, summary),
        seconds=time.monotonic() - began,
    )


def damaged(summary: RunPlan, store: Store) -> frozenset[str]:
    """Keys of the plan's records that are there and cannot be read; looked for only where the last page found some."""
    counts = _json(store, gallery_prefix(summary.job, summary.run12) + "gallery.json").get("counts")
    if not isinstance(counts, dict) or not counts.get("damaged"):
        return frozenset()
    return frozenset(key for key in summary.records if (data := store.read(key)) and record_of(key, data) is None)


def current_page(store: Store, summary: RunPlan) -> str | None:
    """The page's key where the run's gallery is written already and is the job's latest, else None."""
    latest = _json(store, latest_key(summary.job))
    return gallery_prefix(summary.job, summary.run12) + "index.html" if latest.get("run12") == summary.run12 else None


def _json(store: Store, key: str) -> dict[str, Any]:
    """The JSON object at `key`; an empty one where there is none that can be read."""
    try:
        value = json.loads(store.read(key) or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


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
    if store.read(plan_key(summary.run12)) != data:
        store.write(plan_key(summary.run12), data)
