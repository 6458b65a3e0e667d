"""What of a checkpoint's job is done, what failed for good, and the entries of the index that say so."""

from collections.abc import Mapping

from classmodels.job.identity import ALGORITHM
from classmodels.job.plan import Plan, Unit, by_task
from classmodels.nights.discover import Found
from classmodels.nights.template import Template
from classmodels.run.upload import Failure
from classmodels.store import Store
from classmodels.store.nights import Done, Noise, Undone, done_key
from classmodels.store.records import ShardReport, dump, parse, report_prefix

Failures = Mapping[str, Failure]
"""Units that would fail again however often they were done, by the key that their record would have."""


def missing(plan: Plan, store: Store, but: Failures | None = None) -> list[Unit]:
    """The units of `plan` that have no record, without those of `but`; one listing for each recipe."""
    found = []
    for task, units in by_task(plan.units):
        present = {*store.list(task.prefix), *(but or ())}
        found += [unit for unit in units if unit.record_key not in present]
    return found


def given_up(plan: Plan, store: Store) -> Failures:
    """What the workers of a cluster have reported of the plan's units that would fail again, and nobody has done."""
    open_ = {unit.record_key for unit in missing(plan, store)}
    found: dict[str, Failure] = {}
    for key in store.list(report_prefix(plan.run12)) if open_ else ():
        report = parse(ShardReport, store.read(key) or b"")
        for one in report.failed if report is not None else ():
            if one.for_good and one.record in open_:
                assert one.record is not None
                found[one.record] = Failure(one.what, one.reason, one.record, for_good=True)
    return found


def write_entries(
    template: Template, found: Found, plan: Plan, noise: Plan, sha256: str, for_good: Failures, store: Store
) -> None:
    """Write the entries of a checkpoint all of whose units, and those of its noise, are done or have failed for good:
    one for each recipe."""
    itself = [judge for judge in plan.job.panel if judge.model is plan.job.models[0]]
    for (task, units), (other, shown) in zip(by_task(plan.units), by_task(noise.units), strict=True):
        undone = [
            Undone(class_index=unit.class_index, reason=for_good[unit.record_key].reason[:4096])
            for unit in units
            if unit.record_key in for_good
        ]
        seeds = Noise(
            run12=noise.run12,
            recipe12=other.recipe12,
            seed=other.seed,
            classes=tuple(unit.class_index for unit in shown),
        )
        entry = Done(
            job=template.name,
            source=found.source,
            uri=found.uri,
            source_id=found.source_id,
            sha256=sha256,
            model12=task.model.model12,
            run12=plan.run12,
            recipe=task.recipe.name,
            recipe12=task.recipe12,
            wanted12=template.wanted12[task.recipe.name],
            algorithm=ALGORITHM,
            step=found.step,
            epoch=found.epoch,
            time=found.time,
            modified=found.modified,
            units=len(units) - len(undone),
            classes=tuple(unit.class_index for unit in units),
            failed=tuple(undone),
            tags=found.tags,
            judge12=itself[0].judge12 if itself else None,
            noise=seeds if len(undone) < len(units) else None,
        )
        key, data = done_key(template.name, found.checkpoint12, entry.wanted12, ALGORITHM), dump(entry)
        if store.read(key) != data:
            store.write(key, data)
