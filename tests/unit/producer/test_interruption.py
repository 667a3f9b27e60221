from __future__ import annotations

import os
import signal
import threading

import pytest

from producer.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_a_place_where_it_is_allowed(number: signal.Signals) -> None:
    reached = False
    with Interruption() as interruption:
        os.kill(os.getpid(), number)  # not allowed here: nothing may happen yet
        reached = True
        with pytest.raises(KeyboardInterrupt):
            interruption.allowed.__enter__()
        with interruption.allowed:
            pass  # answered once, not for ever
    assert reached


def test_a_signal_inside_is_raised_at_once() -> None:
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with Interruption() as interruption, interruption.allowed, pytest.raises(KeyboardInterrupt):
        threading.Event().wait(30)


def test_the_earlier_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interruption():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_off_the_main_thread_it_leaves_the_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def run() -> None:
        with Interruption() as interruption, interruption.allowed:
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
