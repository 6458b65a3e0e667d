"""Ctrl-C and SIGTERM while images climb: they wait for the end of the step, so that it can be saved where it is."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether an interrupt was `requested` while interrupts were put off."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """In its body a first interrupt only sets `requested`, for the body to look at; a second one does not wait.

        Whoever does not look meets it as KeyboardInterrupt at the end of the body. Only signals that would have raised
        that are put off, and only the main thread can do so.
        """
        signals: list[signal.Signals] = []
        if threading.current_thread() is threading.main_thread():
            both = (signal.SIGINT, signal.SIGTERM)
            signals = [one for one in both if signal.getsignal(one) is signal.default_int_handler]
        for one in signals:
            signal.signal(one, self._note)
        try:
            yield
        finally:
            for one in signals:
                signal.signal(one, signal.default_int_handler)
            self.check()

    def check(self) -> None:
        """Raises KeyboardInterrupt if one was requested."""
        if self.requested:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.check()
        self.requested = True


@contextmanager
def undisturbed() -> Iterator[None]:
    """In its body, the last words of a process, SIGTERM is not heard: the end has come anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
