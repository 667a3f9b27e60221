"""Predict calls under way: as many as the limit allows, the rest waiting here in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Protocol

from worker.errors import Cause, ServingUnavailable
from worker.ports import CallTrace, Clock, Events
from worker.serving.errors import OTHERWISE, Meaning, error_for, given_up, meaning_of
from worker.serving.limiter import AdaptiveLimit
from worker.serving.wire import Scores

OK = "OK"


class Rpc(Protocol):
    """What we need of a grpc future."""

    def code(self) -> object:
        """The grpc.StatusCode; blocks until the call has ended."""

    def details(self) -> str | None:
        """What the server said."""

    def result(self) -> bytes:
        """The reply."""

    def add_done_callback(self, callback: Callable[[Rpc], None]) -> None:
        """Calls back once, on a thread of grpc's, when the call has ended."""

    def cancel(self) -> object:
        """Never blocks."""


class Send(Protocol):
    """How a request is sent."""

    def __call__(self, request: bytes, *, metadata: Sequence[tuple[str, str]] | None = None) -> Rpc:
        """Starts the call; never blocks. Raises ValueError where the channel is closed."""


class Prediction:
    """One call: a ports.Call."""

    def __init__(
        self,
        request: bytes,
        read: Callable[[bytes], Scores],
        what: str,
        calls: Calls,
        trace: CallTrace | None = None,
    ) -> None:
        self.request = request
        self.read = read
        """Turns the reply into scores; raises ServingUnavailable for one that makes no sense."""
        self.what = what
        self.trace = trace
        self.rpc: Rpc | None = None
        self.started = 0.0
        self._calls = calls
        self._answer: Future[Scores] = Future()

    def result(self) -> Scores:
        """See ports.Call."""
        return self._answer.result()

    def cancel(self) -> None:
        """See ports.Call."""
        self._calls.cancel(self)

    def settle(self, outcome: Scores | BaseException, status: str = "") -> None:
        """Ends the call; whoever waits in result() goes on. The first outcome stands. `status` is for the trace; empty:
        the outcome's own."""
        if self.trace is not None:  # first: whoever has the answer finds the trace complete
            self.trace.ended(status or getattr(outcome, "status", type(outcome).__name__))
        with suppress(InvalidStateError):
            if isinstance(outcome, BaseException):
                self._answer.set_exception(outcome)
            else:
                self._answer.set_result(outcome)

    @property
    def ended(self) -> bool:
        """Whether result() would return at once."""
        return self._answer.done()


class Calls:
    """Starts predictions within the limit and settles them. Thread-safe.

    A finished call starts the next one from grpc's own callback thread, so nobody has to wait for a place; a call's
    deadline begins when it starts, not while it waits."""

    def __init__(
        self,
        send: Send,
        maximum: int,
        events: Events,
        clock: Clock,
        on_outage: Callable[[], None],
    ) -> None:
        self._send = send
        self._maximum = maximum
        self._limit = AdaptiveLimit(maximum)
        self._events = events
        self._clock = clock
        self._on_outage = on_outage
        self._lock = Lock()
        """Guards the limit and everything below."""
        self._waiting: deque[Prediction] = deque()
        self._under_way: set[Prediction] = set()
        self._closed = False

    def submit(self, prediction: Prediction) -> None:
        """Starts the prediction, or queues it. Never blocks."""
        with self._lock:
            closed = self._closed
            if not closed:
                self._waiting.append(prediction)
        if closed:
            prediction.settle(given_up(prediction.what))
        self._start_ready()

    def cancel(self, prediction: Prediction) -> None:
        """Gives a prediction up, wherever it is. Idempotent."""
        with self._lock:
            if prediction in self._waiting:
                self._waiting.remove(prediction)
        prediction.settle(given_up(prediction.what))
        if prediction.rpc is not None:
            prediction.rpc.cancel()

    def close(self) -> None:
        """Gives every prediction up. Idempotent."""
        with self._lock:
            self._closed = True
            given_up = [*self._waiting, *self._under_way]
            self._waiting.clear()
        for prediction in given_up:
            self.cancel(prediction)

    def _start_ready(self) -> None:
        while (prediction := self._next()) is not None:
            prediction.started = self._clock.monotonic()
            try:
                rpc = self._sent(prediction)
            except ValueError:  # how grpc says that the channel was closed meanwhile
                error = given_up(prediction.what)
                self._end(prediction, error.status, error)
                continue
            prediction.rpc = rpc
            if prediction.ended:  # cancelled between the queue and here
                rpc.cancel()
            rpc.add_done_callback(partial(self._answered, prediction))

    def _sent(self, prediction: Prediction) -> Rpc:
        trace = prediction.trace
        return (
            self._send(prediction.request)
            if trace is None
            else self._send(prediction.request, metadata=trace.sending())
        )

    def _next(self) -> Prediction | None:
        with self._lock:
            if not self._waiting or len(self._under_way) >= self._limit.value:
                return None
            prediction = self._waiting.popleft()
            self._under_way.add(prediction)
            self._events.requests(len(self._under_way), self._limit.value)
            return prediction

    def _answered(self, prediction: Prediction, rpc: Rpc) -> None:
        status = str(getattr(rpc.code(), "name", rpc.code()))
        meaning = OTHERWISE
        outcome: Scores | BaseException
        try:
            if status == OK:
                outcome = prediction.read(rpc.result())
            else:
                details = rpc.details() or ""
                meaning, outcome = meaning_of(status, details), error_for(status, details, prediction.what)
        except ServingUnavailable as error:
            status, outcome = error.status, error
        except Exception as error:  # noqa: BLE001  a call that is never settled would hang the worker without a word
            status, outcome = Cause.BAD_REPLY.value, error
        self._end(prediction, status, outcome, meaning)
        self._start_ready()

    def _end(
        self, prediction: Prediction, status: str, outcome: Scores | BaseException, meaning: Meaning = OTHERWISE
    ) -> None:
        now = self._clock.monotonic()
        with self._lock:
            self._under_way.discard(prediction)
            if meaning.lowers_limit:
                self._limit.overloaded(prediction.started, now)
            elif status == OK:
                self._limit.succeeded()
            self._events.requests(len(self._under_way), self._limit.value)
        if meaning.outage:
            self._on_outage()
        self._events.predicted(now - prediction.started, status)
        prediction.settle(outcome, status)
