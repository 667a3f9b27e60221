"""Predictions in flight, with calls that end when the test says so and a clock that it moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from worker.errors import ServingUnavailable
from worker.serving.calls import Calls, Prediction
from worker.testing import ManualClock, RecordingEvents


class ManualRpc:
    """A call under way."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.cancelled = False
        self._status = ""
        self._callbacks: list[Callable[[Any], None]] = []

    def end(self, status: str) -> None:
        self._status = status
        for callback in self._callbacks:
            callback(self)

    def code(self) -> str:
        return self._status

    def details(self) -> None:
        return None

    def result(self) -> bytes:
        return self.request

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def cancel(self) -> None:
        self.cancelled = True


class Desk:
    """Calls with their surroundings."""

    def __init__(self, maximum: int) -> None:
        self.sent: list[ManualRpc] = []
        self.events = RecordingEvents()
        self.clock = ManualClock(0.0)
        self.outages = 0
        self.calls = Calls(self._send, maximum, self.events, self.clock, self._outage)

    def _send(self, request: bytes) -> ManualRpc:
        self.sent.append(ManualRpc(request))
        return self.sent[-1]

    def _outage(self) -> None:
        self.outages += 1

    def submit(self, request: bytes, read: Callable[[bytes], Any] = lambda reply: [[len(reply)]]) -> Prediction:
        prediction = Prediction(request, read, "Predict", self.calls)
        self.calls.submit(prediction)
        return prediction


def test_calls_start_in_the_order_they_came_as_others_end() -> None:
    desk = Desk(2)
    for request in (b"a", b"b", b"c", b"d"):
        desk.submit(request)
    assert [rpc.request for rpc in desk.sent] == [b"a", b"b"]

    desk.sent[1].end("OK")
    desk.sent[0].end("INVALID_ARGUMENT")

    assert [rpc.request for rpc in desk.sent] == [b"a", b"b", b"c", b"d"]


def test_the_time_told_does_not_count_the_wait_for_a_place() -> None:
    desk = Desk(1)
    desk.submit(b"a")
    desk.submit(b"b")
    desk.clock.advance(5)
    desk.sent[0].end("OK")
    desk.clock.advance(2)
    desk.sent[1].end("OK")

    assert desk.events.named("predicted") == [(5.0, "OK"), (2.0, "OK")]


def test_one_overload_with_many_in_flight_halves_the_limit_once() -> None:
    desk = Desk(8)
    for _ in range(8):
        desk.submit(b"x")
    desk.clock.advance(1)
    for rpc in desk.sent[:8]:
        rpc.end("UNAVAILABLE")

    assert desk.events.named("requests")[-1] == (0, 4)
    assert desk.outages == 8


@pytest.mark.parametrize(
    ("status", "limit"),
    [
        ("UNAVAILABLE", 4),
        ("RESOURCE_EXHAUSTED", 4),
        ("DEADLINE_EXCEEDED", 4),
        ("INVALID_ARGUMENT", 8),
        ("NOT_FOUND", 8),
        ("CANCELLED", 8),
        ("INTERNAL", 8),
        ("OK", 8),
    ],
)
def test_only_an_overload_lowers_the_limit(status: str, limit: int) -> None:
    desk = Desk(8)
    desk.submit(b"x")
    desk.sent[0].end(status)

    assert desk.events.named("requests")[-1] == (0, limit)


def test_a_closed_channel_ends_every_call_that_waits() -> None:
    desk = Desk(1)

    def closed(_: bytes) -> ManualRpc:
        raise ValueError("Cannot invoke RPC on closed channel!")

    desk.calls._send = closed  # type: ignore[assignment]
    for prediction in [desk.submit(b"a"), desk.submit(b"b")]:
        with pytest.raises(ServingUnavailable) as error:
            prediction.result()
        assert error.value.status == "CANCELLED"


def test_a_call_that_is_given_up_while_it_starts_is_cancelled() -> None:
    desk = Desk(1)
    waiting = [Prediction(b"a", lambda _: (), "Predict", desk.calls)]
    send = desk.calls._send

    def given_up_meanwhile(request: bytes) -> Any:
        waiting[0].cancel()
        return send(request)

    desk.calls._send = given_up_meanwhile
    desk.calls.submit(waiting[0])

    assert desk.sent[0].cancelled


def test_a_bug_in_reading_ends_the_call_rather_than_hanging_it() -> None:
    desk = Desk(1)

    def broken(_: bytes) -> Any:
        raise KeyError("a bug")

    first, second = desk.submit(b"a", broken), desk.submit(b"b")
    desk.sent[0].end("OK")
    desk.sent[1].end("OK")

    with pytest.raises(KeyError):
        first.result()
    assert second.result() == [[1]]


def test_the_first_outcome_stands() -> None:
    desk = Desk(1)
    prediction = desk.submit(b"a")
    prediction.cancel()
    assert desk.sent[0].cancelled
    desk.sent[0].end("OK")

    with pytest.raises(ServingUnavailable):
        prediction.result()
