"""When the state of a batch is saved, taken up again and deleted. `state.py` says what it is.

Between two steps a snapshot is taken, and written in the background while the ascent goes on. Nothing here is ever an
error of the run: a state that cannot be saved, read or believed costs seconds, and a warning.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from classmodels.errors import DamagedError, StoreError
from classmodels.job.identity import unit_identity
from classmodels.job.plan import Task
from classmodels.run.background import Background
from classmodels.run.batch import Climb
from classmodels.run.interrupt import Interrupt
from classmodels.run.numerics import Choice
from classmodels.run.progress import Quiet
from classmodels.run.state import STATES, Name, State, decode, encode, state_prefix
from classmodels.store import Store

log = logging.getLogger("classmodels")

INTERVAL = 20.0
"""Seconds between two snapshots: what a killed process loses at most."""
FLUSH = 5.0
"""Seconds that the last snapshot is given when the process is asked to end."""


class Keeper:
    """Keeps the state of one batch at a time: `begin` a task; `resume`, `between_steps` and `saved` for each batch."""

    def __init__(self, store: Store, interval: float, interrupt: Interrupt, progress: Quiet) -> None:
        """One listing tells what others, and those before us, have left."""
        self._store, self._interval, self._interrupt, self._progress = store, interval, interrupt, progress
        self._found: list[tuple[str, Name]] = []
        try:
            self._found += [(key, name) for key in store.list(STATES) if (name := Name.parse(key))]
        except StoreError as error:
            log.warning("nothing that was under way is taken up again: %s", error)
        self._prefix = ""
        self._prefixes = {key.rpartition("/")[0] + "/" for key, _ in self._found}
        self._here: list[tuple[str, Name]] = []
        self._saved: set[str] = set()
        self._last = time.monotonic()
        self._background = Background("state", 1)

    def begin(self, task: Task) -> None:
        self._saved.clear()  # a task that broke off keeps its state for the next run
        self._prefix = state_prefix(task.prefix)
        self._here = [(key, name) for key, name in self._found if key.rpartition("/")[0] + "/" == self._prefix]

    def resume(self, climbs: Sequence[Climb], choice: Choice) -> State | None:
        """A state that some of `climbs` were saved in under the numerics of `choice`, each only once; None without.

        The next batch begins.
        """
        self._last = time.monotonic()
        left = {climb.identity for climb in climbs}
        wanted = Name.of([climb.target for climb in climbs], left, choice.described)
        for key, name in list(self._here):
            if name.numerics12 != wanted.numerics12 or name.last < wanted.first or wanted.last < name.first:
                continue
            self._here.remove((key, name))
            state = self._read(key, name)
            if state is None:
                continue
            if state.numerics != choice.described or len(state.units) > choice.batch:
                self._refuse(key, "it is not of these numerics")
            elif not left.isdisjoint(state.units):
                if left.issuperset(state.units):
                    self._saved.add(key)
                self._progress.say(f"{len(left.intersection(state.units))} units go on after step {state.done}")
                return state
        return None

    def between_steps(self, climbs: Sequence[Climb], choice: Choice, snapshot: Callable[[], State]) -> None:
        """Save what `snapshot` returns if it is time to, and the last state is written. Raises KeyboardInterrupt."""
        if self._interrupt.requested:
            self._save(climbs, choice, snapshot())
            if not self._background.wait(seconds=FLUSH):
                log.warning("the state of the batch under way could not be saved within %.0f s", FLUSH)
            self._interrupt.check()
        if time.monotonic() - self._last >= self._interval and not self._background.unfinished:
            self._save(climbs, choice, snapshot())
            self._last = time.monotonic()

    def saved(self) -> frozenset[str]:
        """The keys of all states of the batch that is done: what to `forget` once its units are."""
        keys = frozenset(self._saved)
        self._saved.clear()
        return keys

    def forget(self, keys: Iterable[str]) -> None:
        """Delete these states, in the background and after whatever is still being saved."""
        for key in keys:
            self._background.submit(partial(self._delete, key))

    def sweep(self, tasks: Iterable[Task], settled: Callable[[Task], set[int]]) -> None:
        """Delete what states of `tasks` nobody needs: all their units are settled, or they cannot be read.

        settled: the classes of a task that are done or never will be. What is left then are states of batches that were
        made up differently, or of a process that was killed before it could delete them.
        """
        self._background.wait()
        try:
            for task in tasks:
                if state_prefix(task.prefix) in self._prefixes:
                    self._sweep(task, settled(task))
        except StoreError as error:
            log.warning("saved states that nobody needs may be left: %s", error)
        self._background.wait()

    def close(self) -> None:
        self._background.close()

    def _sweep(self, task: Task, settled: set[int]) -> None:
        units = {unit_identity(task.model.model12, task.recipe12, index) for index in settled}
        for key in self._store.list(state_prefix(task.prefix)):
            name = Name.parse(key)
            # The name tells enough of most states that are still needed: those of other workers are not read.
            if name is not None and {name.first, name.last} <= settled:
                state = self._read(key, name)
                if state is not None and units.issuperset(state.units):
                    self._delete(key)

    def _save(self, climbs: Sequence[Climb], choice: Choice, state: State) -> None:
        name = Name.of([climb.target for climb in climbs], state.units, choice.described)
        key = f"{self._prefix}{name}"
        self._saved.add(key)
        self._prefixes.add(self._prefix)

        def write() -> None:
            try:
                self._store.write(key, encode(state))
            except StoreError as error:
                log.warning("the state of the batch under way is not saved: %s", error)
            else:
                self._progress.saved(len(state.units), state.done)

        self._background.submit(write)

    def _read(self, key: str, name: Name) -> State | None:
        """The state at `key`; None where it cannot be read now, and no such state any more where it never can be."""
        try:
            data = self._store.read(key)
            if data is None:
                return None  # its batch was finished meanwhile
            state = decode(data)
            if Name.of([name.first, name.last], state.units, state.numerics) != name:
                raise ValueError("it is the state of other units or numerics")
        except (DamagedError, ValueError) as error:
            self._refuse(key, str(error))
            return None
        except StoreError as error:
            log.warning("the saved state %s is passed over: %s", key, error)
            return None
        return state

    def _refuse(self, key: str, reason: str) -> None:
        log.warning("the saved state %s is ignored: %s", key, reason)
        self.forget([key])

    def _delete(self, key: str) -> None:
        try:
            self._store.delete(key)
        except StoreError as error:
            log.warning("a saved state that nobody needs is left: %s", error)
