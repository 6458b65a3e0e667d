"""The ascent of a plan's units: what is done already is left alone, what fails leaves its neighbours unharmed.

A batch ascends while the one before is being written (`upload.py`) and its own state saved (`keeper.py`).
"""

import logging
import re
from collections.abc import Callable, Sequence
from functools import partial

from classmodels.errors import ClassmodelsError, FetchError, InputError, MachineError, StoreError
from classmodels.film import frame_steps
from classmodels.job.plan import Task, Unit, by_task
from classmodels.job.schema import Animation
from classmodels.models.classifier import Classifier, load
from classmodels.models.prepare import prepare
from classmodels.models.user_code import first_line
from classmodels.run.batch import Climb, ascend_all
from classmodels.run.gpu import broken
from classmodels.run.interrupt import Interrupt
from classmodels.run.keeper import INTERVAL, Keeper
from classmodels.run.machine import memory_kept
from classmodels.run.numerics import Machine, choose, is_out_of_memory
from classmodels.run.progress import Quiet
from classmodels.run.publish import Publisher
from classmodels.run.upload import Failure, Tally, Uploads
from classmodels.store import Store

log = logging.getLogger("classmodels")

_RECORD = re.compile(r"(\d{4,12})\.json")

GRACE = 5.0
"""Seconds for what has finished ascending to be written when the process is asked to end, beside keeper.FLUSH for the
batch under way: some clusters give but 15 for both."""


def do_units(
    units: Sequence[Unit],
    animation: Animation,
    store: Store,
    machine: Machine,
    progress: Quiet,
    tally: Tally,
    damaged: frozenset[str] = frozenset(),
    *,
    prove: Callable[[], None] = lambda: None,
    interval: float = INTERVAL,
) -> None:
    """Ascend and publish every unit that is not done; `tally` is kept up to date, so that an interrupt finds it true.

    damaged: keys of records that are there but say nothing; their units are done again. prove: see `Uploads`. interval:
    seconds between two saved states. Raises StoreError where results cannot be written: going on would only waste the
    work. On KeyboardInterrupt the batch under way is saved, and what has finished is written as far as GRACE allows.
    """
    doing = _Doing(animation, store, machine, progress, tally, prove, interval)
    try:
        with memory_kept():
            doing.do(units, damaged)
    except KeyboardInterrupt:
        try:
            doing.uploads.wait(GRACE)
        except StoreError as error:
            log.warning("what had finished ascending is not written: %s", error)
        raise
    finally:
        doing.uploads.close()
        doing.keeper.close()


class _Doing:
    """The units of one run on one machine: `do` them."""

    def __init__(
        self,
        animation: Animation,
        store: Store,
        machine: Machine,
        progress: Quiet,
        tally: Tally,
        prove: Callable[[], None],
        interval: float,
    ) -> None:
        self.animation, self.store, self.machine, self.progress, self.tally = animation, store, machine, progress, tally
        self.interrupt = Interrupt()
        self.keeper = Keeper(store, interval, self.interrupt, progress)
        self.uploads = Uploads(store, tally, prove)
        self.loaded: Classifier | None = None

    def do(self, units: Sequence[Unit], damaged: frozenset[str]) -> None:
        tasks = []
        for task, all_units in by_task(units):
            tasks.append(task)
            keys = list(self.store.list(task.prefix))
            present = set(keys) - damaged
            missing = [unit for unit in all_units if unit.record_key not in present]
            self.tally.already += len(all_units) - len(missing)
            if not missing:
                self.tally.complete[task.prefix] = keys
                continue
            try:
                self.ascend(task, missing)
            except (StoreError, MachineError):
                raise
            except Exception as error:
                # The network is the user's code: whatever it raises ends its own units and no others.
                log.debug("task %s broke off", task.prefix, exc_info=error)
                self.uploads.wait()
                check_device(self.machine)
                self.give_up(missing, error, task)
        self.uploads.wait()
        self.keeper.sweep(tasks, self.settled)

    def ascend(self, task: Task, units: list[Unit]) -> None:
        """Batch after batch; each is handed over to be written before the next one begins."""
        classifier, recipe = self.load(task), task.recipe.recipe
        outside = [unit for unit in units if unit.class_index >= classifier.classes]
        for unit in outside:
            reason = f"the network has {classifier.classes} classes, expected an index below that"
            self.tally.fail(Failure(str(unit), reason, unit.record_key, job_is_wrong=True))
        by_identity = {unit.identity: unit for unit in units if unit.class_index < classifier.classes}
        if not by_identity:
            return
        frames = [] if self.animation.format == "none" else frame_steps(self.animation.frames, recipe.steps)
        publisher = Publisher(classifier, self.animation.format)
        choice = choose(classifier, recipe, self.machine, len(frames))
        climbs = [Climb(unit.class_index, identity) for identity, unit in by_identity.items()]
        self.progress.begin(task.title, len(climbs), recipe.steps)
        self.keeper.begin(task)

        def on_step(images: int) -> None:
            self.uploads.check()
            self.progress.step(images)

        with self.interrupt.put_off():
            batches = ascend_all(
                classifier, recipe, climbs, choice, self.machine, frames, on_step, self.keeper, self.progress.score
            )
            for used, summits in batches:
                finished = [(by_identity[summit.climb.identity], summit) for summit in summits]
                states = self.keeper.saved()
                self.uploads.hand_over(publisher, used, finished, partial(self.keeper.forget, states))
                del finished, summits  # the room they take is that of the batch that comes
                self.uploads.make_room(used.batch, self.interrupt.check)

    def load(self, task: Task) -> Classifier:
        import torch

        if self.loaded is None or self.loaded.resolved is not task.model:
            self.loaded = prepare(load(task.model).to(self.machine.device, torch.channels_last))
            for note in self.loaded.notes:
                self.progress.say(f"{self.loaded.name}: {note}")
        return self.loaded

    def give_up(self, units: list[Unit], error: Exception, task: Task) -> None:
        """The model cannot be used, or broke down: the units of `task` that are not done fail with one reason."""
        present = set(self.store.list(task.prefix))
        known = {failure.record for failure in self.tally.failures}
        for unit in units:
            if unit.record_key not in present and unit.record_key not in known:
                self.tally.fail(failure_of(error, str(unit), unit.record_key))

    def settled(self, task: Task) -> set[int]:
        """The classes of `task` that are done, in this run's plan or not, or that it makes no sense to do again."""
        keys = {*self.store.list(task.prefix), *self.uploads.hopeless}
        names = [key.removeprefix(task.prefix) for key in keys if key.startswith(task.prefix)]
        return {int(match[1]) for name in names if (match := _RECORD.fullmatch(name))}


def check_device(machine: Machine) -> None:
    """Raises MachineError where the device of `machine` has broken down, and so whatever was computed on it."""
    why = broken(machine)
    if why is not None:
        raise MachineError(f"{machine.device} has broken down: {why}; what is finished is kept")


def failure_of(error: Exception, what: str, record: str | None = None) -> Failure:
    """`error`, met by a unit or a judge, as its failure."""
    passing = isinstance(error, FetchError)
    return Failure(what, reason_of(error), record, isinstance(error, InputError), passing)


def reason_of(error: Exception) -> str:
    """A sentence for people: an error of ours as it is, one of the user's network by its kind and first line."""
    if isinstance(error, ClassmodelsError):
        return str(error)
    if is_out_of_memory(error):
        return "there is not memory enough for even one image; choose a smaller input size"
    return f"the network broke down: {first_line(error)}"
