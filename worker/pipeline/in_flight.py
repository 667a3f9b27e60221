"""The windows between poll and commit: in order, with the right to be delivered, and the one place that takes it away.

An epoch lasts from one loss of that right (a rebalance, a failed delivery) to the next. A window belongs to the epoch that
its reader's turn began in; when the epoch ends, every window of it is void: waiting, being delivered, or still in the
reader's hands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Condition, Event, Lock
from typing import NamedTuple

from worker.pipeline.preparing import Decoded, Encoded
from worker.ports import Call, Events, WindowTrace

CHECK_SECONDS = 0.5
"""How soon a waiting thread notices a change that nobody told it of."""


class Void(Exception):
    """This window may not be delivered any more; whatever was being done for it stops. Nothing is lost: it is read again."""


class WindowInFlight:
    """One window, its encoding and its predictions. `give_up` may come from any thread, the rest is the deliverer's."""

    def __init__(
        self, epoch: int, decoded: Decoded, encoded: Encoded, calls: Sequence[Call], trace: WindowTrace
    ) -> None:
        self.epoch = epoch
        self.trace = trace
        self.decoded = decoded
        self.encoded = encoded
        self.calls = calls
        self.given_up = Event()
        """Set once the window is void. For back-offs to wait on."""
        self._awaited: Call | None = None
        self._lock = Lock()

    def result_of(self, call: Call) -> Sequence[Sequence[float]]:
        """`call.result()`, which ends early with Void when the window is given up. Raises what the call raises."""
        with self._lock:
            self._awaited = call
        if self.given_up.is_set():
            call.cancel()
        try:
            return call.result()
        except Exception:
            self.check()
            raise

    def check(self) -> None:
        """Raises Void when the window is void."""
        if self.given_up.is_set():
            raise Void

    def encoded_again(self, encoded: Encoded, calls: Sequence[Call]) -> None:
        """Takes the place of the encoding and the predictions for a version that is gone."""
        with self._lock:
            self.encoded, self.calls = encoded, calls
        if self.given_up.is_set():
            self.cancel_calls()

    def cancel_calls(self) -> None:
        """Gives up every prediction under way. Idempotent, never blocks."""
        with self._lock:
            calls = [*self.calls, self._awaited] if self._awaited else [*self.calls]
        for call in calls:
            call.cancel()

    def give_up(self, why: str) -> bool:
        """The window is void from now on. Whether it was not before. Never blocks."""
        with self._lock:
            first = not self.given_up.is_set()
            self.given_up.set()
        self.cancel_calls()
        self.trace.given_up(why)
        return first


class Turn(NamedTuple):
    """What the reader must know before it polls."""

    epoch: int
    rewind: bool
    """Whether the source must go back to the committed offsets first."""


class WindowsInFlight:
    """Every window between poll and commit, oldest first. Thread-safe."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._changed = Condition()
        """Guards everything below, and wakes whoever waits for it to change."""
        self._waiting: deque[WindowInFlight] = deque()
        self._delivering: WindowInFlight | None = None
        self._epoch = 0
        self._rewind = False
        self._closed = False
        self._left_behind = False

    # --- the reader's --------------------------------------------------------------------------------------------

    def begin_turn(self) -> Turn:
        """The epoch of the window that this turn may bring, and whether to go back first. Both at one moment and before
        the poll: a window polled before a rewind must never count as one polled after it, or what was dropped is lost."""
        with self._changed:
            rewind, self._rewind = self._rewind, False
            return Turn(self._epoch, rewind)

    def wait_for_room(self, windows: int, seconds: float) -> bool:
        """Waits until fewer than `windows` are in flight, or a rewind is due, at most so long. Whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count() < windows or self._rewind, seconds)

    def put(self, window: WindowInFlight) -> None:
        """Puts a window in flight, or gives it up when its epoch is over: the source reads it again."""
        with self._changed:
            current = window.epoch == self._epoch
            if current:
                self._waiting.append(window)
                self._tell()
        if not current:
            window.give_up("its epoch was over before it was in flight")

    def idle(self) -> bool:
        """Whether nothing is in flight and no rewind is due."""
        with self._changed:
            return not self._count() and not self._rewind

    def close(self) -> None:
        """No window comes any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # --- the deliverer's -----------------------------------------------------------------------------------------

    def next(self) -> WindowInFlight | None:
        """The oldest window; blocks while there is none. None once no window comes any more."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait(CHECK_SECONDS)
            self._delivering = self._waiting.popleft()
            return self._delivering

    def done(self) -> None:
        """The window that `next` gave last is dealt with."""
        with self._changed:
            self._delivering = None
            self._tell()

    # --- anybody's -----------------------------------------------------------------------------------------------

    def drop_all(self, why: str, *, rewind: bool = False) -> None:
        """Ends the epoch: nothing in flight may be delivered any more, the window that is being delivered included. With
        `rewind`, the reader goes back to the committed offsets before its next poll. Never blocks."""
        with self._changed:
            self._epoch += 1
            self._rewind = self._rewind or rewind
            in_flight = [*self._waiting, self._delivering] if self._delivering else [*self._waiting]
            self._waiting.clear()
            given_up = sum(window.give_up(why) for window in in_flight)
            self._left_behind = self._left_behind or (self._closed and given_up > 0)
            self._events.dropped(given_up, why)
            self._tell()

    @property
    def drained(self) -> bool:
        """Whether no window comes any more, and every one that was polled is delivered."""
        with self._changed:
            return self._closed and not self._left_behind and not self._count() and not self._rewind

    def _count(self) -> int:
        return len(self._waiting) + (self._delivering is not None)

    def _tell(self) -> None:
        self._events.in_flight(self._count())
        self._changed.notify_all()
