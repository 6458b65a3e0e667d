"""Looking at a run until it is over: on a terminal the status is drawn again and again, elsewhere a line tells news.

The run does not hang on who watches it. An API server that does not answer for some minutes is waited for.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from classmodels.cluster.attempts import EXIT_CODES, Attempt, age
from classmodels.cluster.client import Cluster
from classmodels.cluster.shown import line, lines
from classmodels.cluster.status import Observer, Status
from classmodels.errors import ClusterError

EVERY = 3.0
"""Seconds between two looks at the cluster."""
STORE_SHARE = 0.2
"""Of the time, at most, that is spent on listing the store."""
PATIENCE = 900.0
"""Seconds that an API server may be away."""
PAUSE = 30.0
"""Seconds between two lines where nothing happens but progress."""
GONE = 130
"""The exit code where the Job was deleted before it was over: somebody has cancelled the run."""


class Screen(Protocol):
    """Where a status is shown."""

    def show(self, status: Status) -> None:
        """This is how it goes now."""

    def say(self, text: str) -> None:
        """One sentence beside it."""


class Drawn:
    """A terminal."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console, self._live = console, live

    def show(self, status: Status) -> None:
        shown = lines(status)
        room = max(self._console.height - 1, 5)
        self._live.update(Text("\n".join(shown[:room]), overflow="ellipsis", no_wrap=True), refresh=True)

    def say(self, text: str) -> None:
        self._console.print(Text(text))


class Lines:
    """A log: a line where something has happened, and one now and then."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last: tuple[object, ...] = ()
        self._told = 0.0

    def show(self, status: Status) -> None:
        states = tuple(shard.state for shard in status.shards)
        news = (status.state, states, status.endings, status.why, status.warnings, len(status.failures))
        if news != self._last or time.monotonic() - self._told >= PAUSE:
            self._last, self._told = news, time.monotonic()
            self.say(line(status))

    def say(self, text: str) -> None:
        self._write(f"{datetime.now():%H:%M:%S} {text}")


class Json:
    """A program: a JSON object on a line, whenever something is different."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last = ""

    def show(self, status: Status) -> None:
        told = asdict(status)
        same = json.dumps({key: value for key, value in told.items() if key not in ("age", "seconds", "deadline_left")})
        if same != self._last:
            self._last = same
            self._write(json.dumps(told, ensure_ascii=False))

    def say(self, text: str) -> None:
        """Programs read the statuses."""


@contextmanager
def screen(as_json: bool, write: Callable[[str], None]) -> Iterator[Screen]:
    """JSON if that is asked for, a drawing on a terminal, lines elsewhere."""
    console = Console()
    if as_json:
        yield Json(write)
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield Drawn(console, live)
    else:
        yield Lines(write)


def watch(attempt: Attempt, cluster: Cluster, observer: Observer, shown: Screen) -> tuple[int, Status | None]:
    """Look until the run is over; the exit code that its result has, and the last status.

    Raises ClusterError where the API server refuses, or is away for too long.
    """
    last: Status | None = None
    away: float | None = None
    look_again = 0.0
    while True:
        began = time.monotonic()
        try:
            found = cluster.get("Job", attempt.name)
            if found is None or Attempt(found).uid != attempt.uid:
                return (0 if last is not None and last.done == last.units else GONE), last
            now = time.monotonic()
            over = Attempt(found).outcome is not None
            last = observer.look(Attempt(found), with_store=over or now >= look_again)
            if now >= look_again:
                # A store with many units takes its time to be listed: then it is asked less often.
                look_again = time.monotonic() + max(EVERY, (time.monotonic() - now) * (1 / STORE_SHARE - 1))
            if away is not None:
                shown.say(f"the API server is back, after {age(time.monotonic() - away)}")
                away = None
            shown.show(last)
            if last.is_over:
                return EXIT_CODES[last.state], last
        except ClusterError as error:
            # At the first look somebody waits to be told of a slip.
            if not error.passing or last is None:
                raise
            if away is None:
                away = time.monotonic()
                shown.say(f"{error}; the run goes on all the same, trying again for {age(PATIENCE)}")
            elif time.monotonic() - away > PATIENCE:
                raise
        time.sleep(max(EVERY, time.monotonic() - began))  # a run of thousands of pods takes a while to look at
