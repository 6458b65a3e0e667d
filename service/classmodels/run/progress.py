"""How a run tells what it does: bars on a terminal, lines elsewhere, nothing where nobody listens."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from classmodels.models.remote.base import Listener


class Quiet(Listener):
    """Tells nobody; and the interface that the others share."""

    def begin(self, name: str, units: int, steps: int) -> None:
        """A piece of work called `name` begins: so many units of so many steps each."""

    def step(self, images: int) -> None:
        """So many units took a step; a negative number takes steps back."""

    def score(self, mean: Callable[[], float]) -> None:
        """How to learn the mean score of the images that took the last step; whoever asks waits for the device."""

    def saved(self, units: int, step: int) -> None:
        """The state of so many units after that step is in the store; told in another thread."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Amount(ProgressColumn):
    """How much of a task is done: steps of an ascent, bytes of a download."""

    def render(self, task: Task) -> Text:
        done, total = int(task.completed), None if task.total is None else int(task.total)
        if task.fields["is_download"]:
            return Text(decimal(done) if total is None else f"{decimal(done)} of {decimal(total)}")
        return Text(f"{done}/{total} steps")


class Bars(Quiet):
    """One bar for each task of the run and each download, for a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            Amount(),
            TimeRemainingColumn(),
            console=console,
        )
        self.task: TaskID | None = None
        self.downloads: dict[str, TaskID] = {}
        self.download: TaskID | None = None

    def begin(self, name: str, units: int, steps: int) -> None:
        self.task = self.progress.add_task(f"{name} ({units})", total=units * steps, is_download=False)

    def fetching(self, name: str, have: int, size: int | None) -> None:
        if name not in self.downloads:
            self.downloads[name] = self.progress.add_task(name, total=size, is_download=True)
        self.download = self.downloads[name]
        # Begun anew, so that the speed is not reckoned from bytes that were there already.
        self.progress.reset(self.download, total=size, completed=have)

    def fetched(self, count: int) -> None:
        if self.download is not None:
            self.progress.advance(self.download, count)

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
        for task in self.progress.task_ids:  # what was shown stays; it is not shown again when the next part begins
            self.progress.remove_task(task)
        self.task, self.download, self.downloads = None, None, {}


class Fetching(Quiet):
    """A line at the beginning of each download, and every half minute."""

    def __init__(self, every: float = 30.0) -> None:
        self.every, self.last = every, 0.0
        self.download, self.have, self.size, self.began, self.had = "", 0, 0, 0.0, 0

    def fetching(self, name: str, have: int, size: int | None) -> None:
        self.download, self.have, self.size = name, have, size or 0
        self.began = self.last = time.monotonic()
        self.had = have
        there = f", of which {decimal(have)} are here already" if have else ""
        self.say(f"fetching {name}: {decimal(size) if size is not None else 'nobody says how much'}{there}")

    def fetched(self, count: int) -> None:
        self.have += count
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            seconds = (self.last - self.began) * (self.size - self.have) / max(self.have - self.had, 1)
            left = f" of {decimal(self.size)}, {seconds:.0f} s left" if self.size else ""
            self.say(f"fetching {self.download}: {decimal(self.have)}{left}")


class Lines(Fetching):
    """A line at the beginning of each task and each download, and every half minute, for logs."""

    def __init__(self, console: Console, every: float = 30.0) -> None:
        super().__init__(every)
        self.console = console
        self.name, self.done, self.total = "", 0, 0

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
