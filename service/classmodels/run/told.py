"""How a share goes, told as events: the listener of a worker, as bars and lines are those of a run."""

import math
import time
from collections.abc import Callable, Sequence

from classmodels.job.plan import Unit, by_task
from classmodels.run.event_log import EventLog
from classmodels.run.events import Begin, Failed, Message, Progress, Saved
from classmodels.run.progress import Fetching
from classmodels.run.upload import Failure, Tally

EVERY = 10.0
"""Seconds between two events of progress."""


class Told(Fetching):
    """Tells `events`. What it counts in image-steps is one step of one image."""

    def __init__(self, events: EventLog) -> None:
        super().__init__()
        self._events = events
        self._tally = Tally()
        self.units: int | None = None
        """Of the share, once it is known."""
        self._ahead: dict[str, int] = {}
        """Image-steps of the ascents to come, in order, as if nothing of them were done."""
        self._work, self._taken, self._of = "", 0, 0
        self._ascending = False
        self._latest = self._timed = 0
        self._began = self._told = 0.0

    def share(self, units: Sequence[Unit], tally: Tally) -> None:
        """What is to be done, and where it is counted what is."""
        self._tally, self.units = tally, len(units)
        tally.heard = self.failed
        self._ahead = {task.title: len(some) * task.recipe.recipe.steps for task, some in by_task(units)}

    def begin(self, name: str, units: int, steps: int) -> None:
        self._ascending = name in self._ahead
        if self._ascending:  # those before it had nothing left to do
            names = list(self._ahead)
            self._ahead = {later: self._ahead[later] for later in names[names.index(name) + 1 :]}
        self._work, self._taken, self._of = name, 0, units * steps
        self._timed, self._began, self._told = 0, time.monotonic(), time.monotonic()
        self._events.tell(Begin, work=name, units=units, steps=steps)

    def step(self, images: int) -> None:
        self._taken += images
        self._latest = images
        if not self._ascending and self._is_due():
            self._tell(None)

    def score(self, mean: Callable[[], float]) -> None:
        # Only what has a score was a step: what a saved state brings was taken by another process, at another time.
        self._timed += self._latest
        if self._is_due():
            found = mean()
            self._tell(round(found, 4) if math.isfinite(found) else None)

    def saved(self, units: int, step: int) -> None:
        self._events.tell(Saved, units=units, step=step)

    def failed(self, failure: Failure) -> None:
        self._events.tell(
            Failed, what=failure.what, reason=failure.reason, record=failure.record, retry=failure.passing
        )

    def say(self, text: str) -> None:
        self._events.tell(Message, level="info", text=text)

    def _is_due(self) -> bool:
        return time.monotonic() - self._told >= EVERY

    def _tell(self, score: float | None) -> None:
        self._told = time.monotonic()
        speed = self._timed / (self._told - self._began) if self._timed else None
        left = self._of - self._taken + sum(self._ahead.values())
        self._events.tell(
            Progress,
            done=self._tally.done + self._tally.already,
            failed=sum(failure.record is not None for failure in self._tally.failures),
            units=self.units or 0,
            work=self._work,
            image_steps=self._taken,
            of_image_steps=self._of,
            image_steps_per_second=None if speed is None else round(speed, 2),
            score=score,
            seconds_left=None if speed is None else round(left / speed, 1),
        )
