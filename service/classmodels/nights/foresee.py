"""What a night would do, and what it would cost: for `--dry-run`. Nothing is fetched, and nothing is written."""

from dataclasses import dataclass

from classmodels.job.check import check_job
from classmodels.nights.night import Look
from classmodels.nights.reconcile import Work
from classmodels.nights.template import NOISE_CLASSES, Template
from classmodels.run.estimate import seconds_per_step
from classmodels.store import Store


@dataclass(frozen=True)
class Foreseen:
    """units: None where only the checkpoint tells how many classes there are; device_hours: None where no unit of the
    model was ever timed here either. Both count what is under another seed, for the noise."""

    work: Work
    units: int | None
    device_hours: float | None


def foresee(template: Template, seen: Look, store: Store) -> list[Foreseen]:
    """The night's work in its order. Raises InputError where the template is wrong."""
    recipes = template.recipes
    costs: dict[str, tuple[int | None, float | None]] = {}
    for work in seen.works:
        source = work.found.source
        if source in costs:
            continue
        checked = check_job(template.job_for(source, work.found.uri), download=False)
        classes = None if source in checked.uncounted else len(checked.classes[source])
        if classes is None:
            costs[source] = None, None
            continue
        each = classes + min(NOISE_CLASSES, classes)
        rate = seconds_per_step(f"units/{source}@", store)
        steps = sum(one.recipe.steps for one in recipes)
        costs[source] = each * len(recipes), None if rate is None else each * steps * rate / 3600
    return [Foreseen(work, *costs[work.found.source]) for work in seen.works]
