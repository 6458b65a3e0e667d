"""How a run tells what it does: bars on a terminal, lines elsewhere, nothing where nobody listens."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Quiet:
    """Tells nobody; and the interface that the others share."""

    def begin(self, name: str, units: int, steps: int) -> None:
        """A piece of work called `name` begins: so many units of so many steps each."""

    def step(self, images: int) -> None:
        """So many units took a step; a negative number takes steps back."""

    def say(self, text: str) -> None:
        """One line for people to keep."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Bars(Quiet):
    """One bar for each task of the run, for a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task: TaskID | None = None

    def begin(self, name: str, units: int, steps: int) -> None:
        self.task = self.progress.add_task(f"{name} ({units})", total=units * steps)

    def step(self, images: int) -> None:
        if self.task is not None:
            self.progress.advance(self.task, images)

    def say(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()


class Lines(Quiet):
    """A line at the beginning of each task and every half minute, for logs."""

    def __init__(self, console: Console, every: float = 30.0) -> None:
        self.console, self.every = console, every
        self.name, self.done, self.total, self.last = "", 0, 0, 0.0

    def begin(self, name: str, units: int, steps: int) -> None:
        self.name, self.done, self.total, self.last = name, 0, units * steps, time.monotonic()
        self.say(f"{name}: {units} to do")

    def step(self, images: int) -> None:
        self.done += images
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            self.say(f"{self.name}: {100 * self.done // max(self.total, 1)} %")

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def listener(console: Console) -> Quiet:
    """Bars where `console` is a terminal, lines elsewhere."""
    return Bars(console) if console.is_terminal else Lines(console)
