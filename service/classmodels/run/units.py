"""The ascent of a plan's units: what is done already is left alone, what fails leaves its neighbours unharmed."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from classmodels.errors import ClassmodelsError, InputError, StoreError
from classmodels.image import frame_steps
from classmodels.job.plan import Task, Unit, by_task
from classmodels.job.schema import Animation
from classmodels.models.classifier import Classifier, load
from classmodels.models.user_code import first_line
from classmodels.run.batch import Climb, ascend_all
from classmodels.run.numerics import Machine, choose, is_out_of_memory
from classmodels.run.progress import Quiet
from classmodels.run.publish import Publisher
from classmodels.store import Store

log = logging.getLogger("classmodels")


@dataclass(frozen=True)
class Failure:
    """A unit that was not done, or a judge that did not judge, and why. job_is_wrong: the job itself is to blame."""

    what: str
    reason: str
    job_is_wrong: bool = False


@dataclass
class Tally:
    """What became of the units of a plan. complete: what a listing of each task said of which all units were done."""

    done: int = 0
    already: int = 0
    failures: list[Failure] = field(default_factory=list)
    complete: dict[str, list[str]] = field(default_factory=dict)


def do_units(
    units: Sequence[Unit],
    animation: Animation,
    store: Store,
    machine: Machine,
    progress: Quiet,
    tally: Tally,
    damaged: frozenset[str] = frozenset(),
) -> None:
    """Ascend and publish every unit that is not done; `tally` is kept up to date, so that an interrupt finds it true.

    damaged: keys of records that are there but say nothing; their units are done again. Raises StoreError where
    results cannot be written: going on would only waste the work.
    """
    loaded: Classifier | None = None
    for task, all_units in by_task(units):
        keys = list(store.list(task.prefix))
        present = set(keys) - damaged
        missing = [unit for unit in all_units if unit.record_key not in present]
        tally.already += len(all_units) - len(missing)
        if not missing:
            tally.complete[task.prefix] = keys
            continue
        try:
            if loaded is None or loaded.resolved is not task.model:
                loaded = _load(task, machine, progress)
            _do_task(task, missing, loaded, animation, store, machine, progress, tally)
        except StoreError:
            raise
        except Exception as error:
            # The network is the user's code: whatever it raises ends its own units and no others.
            log.debug("task %s broke off", task.prefix, exc_info=error)
            _give_up(missing, error, store, task, tally)


def _load(task: Task, machine: Machine, progress: Quiet) -> Classifier:
    import torch

    classifier = load(task.model).to(machine.device, torch.channels_last)
    for note in classifier.notes:
        progress.say(f"{classifier.name}: {note}")
    return classifier


def _do_task(
    task: Task,
    units: list[Unit],
    classifier: Classifier,
    animation: Animation,
    store: Store,
    machine: Machine,
    progress: Quiet,
    tally: Tally,
) -> None:
    recipe = task.recipe.recipe
    outside = [unit for unit in units if unit.class_index >= classifier.classes]
    for unit in outside:
        reason = f"the network has {classifier.classes} classes, expected an index below that"
        tally.failures.append(Failure(str(unit), reason, job_is_wrong=True))
    units = [unit for unit in units if unit.class_index < classifier.classes]
    if not units:
        return
    frames = [] if animation.format == "none" else frame_steps(animation.frames, recipe.steps)
    publisher = Publisher(store, classifier, animation.format)
    choice = choose(classifier, recipe, machine, len(frames))
    progress.begin(f"{task.model.spec.name} / {task.recipe.name}", len(units), recipe.steps)
    climbs = [Climb(unit.class_index, unit.identity) for unit in units]
    waiting, began = iter(units), time.monotonic()
    for used, summits in ascend_all(classifier, recipe, climbs, choice, machine, frames, progress.step):
        seconds = (time.monotonic() - began) / len(summits)
        for summit in summits:
            unit = next(waiting)
            if summit.failed:
                tally.failures.append(Failure(str(unit), "its score or its gradient is not finite (NaN or infinity)"))
                continue
            publisher.publish(unit, summit, used, seconds)
            tally.done += 1
        began = time.monotonic()


def _give_up(units: list[Unit], error: Exception, store: Store, task: Task, tally: Tally) -> None:
    """The model cannot be used, or broke down: the units of this task that are not done fail with one reason."""
    present = set(store.list(task.prefix))
    known = {failure.what for failure in tally.failures}
    for unit in units:
        if unit.record_key not in present and str(unit) not in known:
            tally.failures.append(Failure(str(unit), reason_of(error), isinstance(error, InputError)))


def reason_of(error: Exception) -> str:
    """A sentence for people: an error of ours as it is, one of the user's network by its kind and first line."""
    if isinstance(error, ClassmodelsError):
        return str(error)
    if is_out_of_memory(error):
        return "there is not memory enough for even one image; choose a smaller input size"
    return f"the network broke down: {first_line(error)}"
