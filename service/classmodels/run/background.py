"""Work that goes on while the ascent does: a few threads that do what they are given, first come first served.

The threads are daemons: a process that must end does not wait for a server that never answers.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import TypeVar

T = TypeVar("T")

_LOOK = 0.1
"""Seconds between two looks at what else goes on, while waiting."""


class Background:
    """`threads` threads, until `close`. An act that raises ends the work: no more is begun, and `check` raises it."""

    def __init__(self, name: str, threads: int) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._changed = Condition()
        self._unfinished = 0
        self._error: BaseException | None = None
        self._closed = False
        self._threads = [Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def unfinished(self) -> int:
        """How many acts wait or are being done."""
        return self._unfinished

    def submit(self, act: Callable[[], None]) -> None:
        with self._changed:
            self._waiting.append(act)
            self._unfinished += 1
            self._changed.notify_all()

    def ask(self, act: Callable[[], T]) -> "Future[T]":
        """What `act` will return or raise, which then ends nothing."""
        future: Future[T] = Future()

        def answer() -> None:
            try:
                future.set_result(act())
            except BaseException as error:
                future.set_exception(error)

        self.submit(answer)
        return future

    def check(self) -> None:
        """Raises what an act has raised."""
        if self._error is not None:
            raise self._error

    def wait(self, most: int = 0, seconds: float | None = None, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Until at most `most` acts are unfinished; False where `seconds` are too few for that.

        meanwhile: called again and again; what it raises ends the waiting. Raises what an act has raised.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while self._unfinished > most:
                self.check()
                meanwhile()
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                self._changed.wait(_LOOK)
        self.check()
        return True

    def close(self, seconds: float = 0) -> None:
        """The threads end with what they are doing, which is waited for so long; what was not begun is not done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads if seconds else ():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                act = self._waiting.popleft()
            try:
                if self._error is None:
                    act()
            except BaseException as error:
                self._error = self._error or error
            finally:
                del act  # and with it what it holds, before the next one is waited for
                with self._changed:
                    self._unfinished -= 1
                    self._changed.notify_all()
