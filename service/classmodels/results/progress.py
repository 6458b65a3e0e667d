"""Bytes that come and go: a bar with the time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Meter(Protocol):
    """Told of bytes; may be told from one thread only."""

    def begin(self, name: str, total: int) -> None:
        """`total` bytes are to come."""

    def step(self, count: int) -> None:
        """So many more have come."""


class Silent:
    """Tells nobody."""

    def begin(self, name: str, total: int) -> None:
        pass

    def step(self, count: int) -> None:
        pass


class Lines:
    """A line at the beginning, and one every ten seconds: for logs."""

    def __init__(self, every: float = 10.0) -> None:
        self.every = every
        self.name, self.total, self.done = "", 0, 0
        self.began = self.last = 0.0

    def begin(self, name: str, total: int) -> None:
        self.name, self.total, self.done = name, total, 0
        self.began = self.last = time.monotonic()
        print(f"{name}: {megabytes(total)}", file=sys.stderr, flush=True)

    def step(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last >= self.every:
            self.last = now
            left = (self.total - self.done) * (now - self.began) / max(self.done, 1)
            line = f"{self.name}: {megabytes(self.done)} of {megabytes(self.total)}, about {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)


class Bar:
    """One bar for each piece of work, for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        text = TextColumn("{task.description}")
        columns = (text, BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(stderr=True))

    def begin(self, name: str, total: int) -> None:
        self.task = self.progress.add_task(name, total=total)

    def step(self, count: int) -> None:
        self.progress.advance(self.task, count)


@contextmanager
def meter() -> Iterator[Meter]:
    """A bar where stderr is a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    bar = Bar()
    with bar.progress:
        yield bar


def counted(count: int, one: str, many: str = "") -> str:
    """So many of what is called `one`: `1 unit`, `2 units`. many: where that is not with an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def megabytes(count: int) -> str:
    """So many bytes for people, such as `40.1 MB`."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
