"""An interrupt waits for the end of a step, a second one does not; and work in the background tells what it raises."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from classmodels.run.background import Background
from classmodels.run.interrupt import Interrupt


def ask(which: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), which)


def test_an_interrupt_is_put_off_to_the_end_of_the_body() -> None:
    interrupt, seen = Interrupt(), []

    def body() -> None:
        with interrupt.put_off():
            ask()
            seen.append(interrupt.requested)

    with pytest.raises(KeyboardInterrupt):
        body()
    assert seen == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_does_not_wait() -> None:
    seen = []

    def body() -> None:
        with Interrupt().put_off():
            ask()
            seen.append("the first")
            ask()
            seen.append("the second")

    with pytest.raises(KeyboardInterrupt):
        body()
    assert seen == ["the first"]


def test_an_error_after_an_interrupt_does_not_hide_it() -> None:
    def body() -> None:
        with Interrupt().put_off():
            ask()
            raise ValueError

    with pytest.raises(KeyboardInterrupt):
        body()


def test_a_signal_that_would_not_have_interrupted_keeps_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with Interrupt().put_off():
            ask(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_thread_puts_nothing_off() -> None:
    def body() -> None:
        with Interrupt().put_off():
            handlers.append(signal.getsignal(signal.SIGINT))

    handlers: list[object] = []
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


# In the background


def wait_for(event: threading.Event) -> Callable[[], None]:
    def act() -> None:
        assert event.wait(30)

    return act


def test_waiting_ends_when_few_enough_are_left_or_time_is_up() -> None:
    background, gate = Background("test", 1), threading.Event()
    for _ in range(3):
        background.submit(wait_for(gate))
    assert background.wait(most=3)
    assert not background.wait(most=2, seconds=0.05)
    gate.set()
    assert background.wait()
    assert background.unfinished == 0
    background.close()


def test_what_an_act_raises_is_raised_to_who_waits_and_nothing_more_is_begun() -> None:
    background, done = Background("test", 1), []
    background.submit(lambda: [][0])
    background.submit(lambda: done.append(1))
    with pytest.raises(IndexError):
        background.wait()
    with pytest.raises(IndexError):
        background.check()
    background.close()
    assert not done


def test_threads_end_when_the_work_is_closed() -> None:
    background = Background("soon-gone", 2)
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("soon-gone")]) == 2
    background.close()
    for thread in threading.enumerate():
        if thread.name.startswith("soon-gone"):
            thread.join(5)
            assert not thread.is_alive()
