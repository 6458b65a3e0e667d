"""What a night would do, and what it and any checkpoint would cost: nothing is fetched, and nothing is written."""

import copy
from dataclasses import dataclass

from classmodels.job.check import check_job
from classmodels.job.plan import expand_plan
from classmodels.nights.night import Look
from classmodels.nights.reconcile import Work
from classmodels.nights.template import NOISE_CLASSES, Template
from classmodels.run.estimate import estimate, seconds_per_step
from classmodels.store import Store


@dataclass(frozen=True)
class Foreseen:
    """units: None where only the checkpoint tells how many classes there are; device_hours: None where no unit of the
    model was ever timed here either. Both count what is under another seed, for the noise."""

    work: Work
    units: int | None
    device_hours: float | None


@dataclass(frozen=True)
class Each:
    """What each checkpoint of a model costs: units, those of another seed among them, objects and bytes that stay.

    device_hours: None where no unit of the model was ever timed here.
    """

    model: str
    units: int
    objects: int
    bytes: int
    device_hours: float | None


def foresee(template: Template, seen: Look, store: Store) -> list[Foreseen]:
    """The night's work in its order. Raises InputError where the template is wrong."""
    recipes = template.recipes
    costs: dict[str, tuple[int | None, float | None]] = {}
    works, budget = [], copy.copy(seen.budget)
    for work in seen.works:
        if budget.allows(work):
            budget.spend(work)
            works.append(work)
    for work in works:
        source = work.found.source
        if source in costs:
            continue
        checked = check_job(template.job_for(source, work.found.uri), download=False)
        classes = None if source in checked.uncounted else len(checked.classes[source])
        if classes is None:
            costs[source] = None, None
            continue
        each = classes + min(NOISE_CLASSES, classes)
        steps = sum(one.recipe.steps for one in recipes)
        costs[source] = each * len(recipes), _hours(each * steps, source, store)
    return [Foreseen(work, *costs[work.found.source]) for work in works]


def each_checkpoint(template: Template, store: Store) -> list[Each]:
    """What a checkpoint of each model of the template costs, whichever it is. Raises InputError."""
    found = []
    for source in template.sources:
        checked = check_job(template.job_for(source, None), download=False)
        plan = expand_plan(checked)
        noise = expand_plan(check_job(template.noise_for(source, None, checked.classes[source]), download=False))
        costs = [estimate(one, store) for one in (plan, noise)]
        units = sum(cost.units for cost in costs)
        steps = sum(unit.task.recipe.recipe.steps for one in (plan, noise) for unit in one.units)
        # The checkpoint before it judges it too.
        objects = sum(cost.objects for cost in costs) + len(plan.units)
        found.append(Each(source, units, objects, sum(cost.bytes for cost in costs), _hours(steps, source, store)))
    return found


def _hours(steps: int, source: str, store: Store) -> float | None:
    rate = seconds_per_step(f"units/{source}@", store)
    return None if rate is None else steps * rate / 3600
