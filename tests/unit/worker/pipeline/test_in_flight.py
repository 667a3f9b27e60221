"""Windows in flight: in order, void when their epoch ends wherever they are, and counted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Thread

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.errors import ServingUnavailable
from worker.pipeline.in_flight import Void, WindowInFlight, WindowsInFlight
from worker.pipeline.preparing import Decoded, Encoded
from worker.records import Window
from worker.testing import RecordingEvents, served
from worker.untraced import UntracedWindow

ENOUGH_SECONDS = 30


class PendingCall:
    """A prediction that is never answered: it ends when it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = Event()

    def result(self) -> Sequence[Sequence[float]]:
        assert self.cancelled.wait(ENOUGH_SECONDS), "nobody cancelled it"
        raise ServingUnavailable("the call was given up")

    def cancel(self) -> None:
        self.cancelled.set()


def window(epoch: int = 0, calls: Sequence[PendingCall] = ()) -> WindowInFlight:
    return WindowInFlight(
        epoch, Decoded(Window([], {}), [], [], []), Encoded(served(), [], []), calls, UntracedWindow(1)
    )


def in_flight() -> tuple[WindowsInFlight, RecordingEvents]:
    events = RecordingEvents()
    return WindowsInFlight(events), events


def dropped(events: RecordingEvents) -> int:
    return sum(count for count, _ in events.named("dropped"))


def aside(run: Callable[[], object]) -> Thread:
    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_windows_leave_in_the_order_they_came() -> None:
    windows, _ = in_flight()
    put = [window() for _ in range(3)]
    for one in put:
        windows.put(one)
    assert [windows.next() for _ in put] == put


def test_dropping_everything_reaches_the_window_that_is_being_delivered() -> None:
    windows, events = in_flight()
    call = PendingCall()
    windows.put(window(calls=[call]))
    delivering = windows.next()
    assert delivering is not None
    waiting = aside(lambda: windows.drop_all("a rebalance"))
    with pytest.raises(Void):
        delivering.result_of(call)
    waiting.join(ENOUGH_SECONDS)
    assert dropped(events) == 1


def test_a_window_is_counted_as_dropped_once() -> None:
    windows, events = in_flight()
    windows.put(window())
    windows.put(window())
    assert windows.next() is not None
    windows.drop_all("a rebalance")
    windows.drop_all("and its delivery failed", rewind=True)
    assert dropped(events) == 2


def test_a_call_begun_for_a_void_window_ends_at_once() -> None:
    void = window()
    void.give_up("a test")
    with pytest.raises(Void):
        void.result_of(PendingCall())


def test_calls_made_again_for_a_window_that_became_void_meanwhile_are_cancelled() -> None:
    void, again = window(), PendingCall()
    void.give_up("a test")
    void.encoded_again(void.encoded, [again])
    assert again.cancelled.is_set()


def test_a_window_polled_before_the_epoch_ended_is_given_up_and_not_delivered() -> None:
    windows, _ = in_flight()
    turn = windows.begin_turn()
    call = PendingCall()
    late = window(turn.epoch, [call])
    windows.drop_all("a delivery failed", rewind=True)
    windows.put(late)
    assert call.cancelled.is_set()
    assert windows.begin_turn().rewind
    assert windows.idle()


def test_a_rewind_is_told_to_one_turn() -> None:
    windows, _ = in_flight()
    windows.drop_all("a delivery failed", rewind=True)
    assert [windows.begin_turn().rewind for _ in range(2)] == [True, False]


def test_there_is_room_while_fewer_windows_are_in_flight_the_one_being_delivered_included() -> None:
    windows, _ = in_flight()
    windows.put(window())
    assert windows.next() is not None
    assert not windows.wait_for_room(1, 0)
    assert windows.wait_for_room(2, 0)
    windows.done()
    assert windows.wait_for_room(1, 0)


def test_a_rewind_that_is_due_counts_as_room() -> None:
    windows, _ = in_flight()
    windows.put(window())
    assert windows.next() is not None
    windows.drop_all("a delivery failed", rewind=True)
    assert windows.wait_for_room(1, 0)


def test_the_deliverer_ends_once_no_window_comes_any_more() -> None:
    windows, _ = in_flight()
    windows.put(window())
    windows.close()
    assert windows.next() is not None
    windows.done()
    assert windows.next() is None
    assert windows.drained


def test_a_window_dropped_after_the_last_one_came_was_not_drained() -> None:
    windows, _ = in_flight()
    windows.put(window())
    windows.close()
    assert windows.next() is not None
    windows.drop_all("its delivery failed", rewind=True)
    windows.done()
    assert windows.next() is None
    assert not windows.drained


def test_a_rewind_that_nobody_made_any_more_is_not_drained() -> None:
    windows, _ = in_flight()
    windows.put(window())
    assert windows.next() is not None
    windows.drop_all("its delivery failed", rewind=True)
    windows.done()
    windows.close()
    assert windows.next() is None
    assert not windows.drained


class Machine(RuleBasedStateMachine):
    """Against a plain model: a list of the windows that may still be delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.events = RecordingEvents()
        self.windows = WindowsInFlight(self.events)
        self.valid: list[WindowInFlight] = []
        self.delivering: WindowInFlight | None = None
        self.put = self.taken = 0

    @rule(late=st.booleans())
    def a_poll(self, late: bool) -> None:
        turn = self.windows.begin_turn()
        if late:
            self.everything_is_dropped()
        one = window(turn.epoch)
        self.windows.put(one)
        assert one.given_up.is_set() == late
        if not late:
            self.put += 1
            self.valid.append(one)

    @precondition(lambda self: self.valid and self.delivering is None)
    @rule()
    def a_delivery_begins(self) -> None:
        self.delivering = self.windows.next()
        assert self.delivering is self.valid.pop(0)

    @precondition(lambda self: self.delivering is not None)
    @rule()
    def a_delivery_ends(self) -> None:
        assert self.delivering is not None
        self.taken += not self.delivering.given_up.is_set()
        self.delivering = None
        self.windows.done()

    @rule()
    def everything_is_dropped(self) -> None:
        self.windows.drop_all("dropped")
        self.valid.clear()
        assert self.delivering is None or self.delivering.given_up.is_set()

    @invariant()
    def each_window_is_in_flight_delivered_or_dropped(self) -> None:
        undecided = len(self.valid) + (self.delivering is not None and not self.delivering.given_up.is_set())
        assert self.put == self.taken + dropped(self.events) + undecided


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=50, stateful_step_count=30)
