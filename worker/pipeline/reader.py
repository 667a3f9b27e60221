"""The reader's side of the loop: polls windows, encodes them, starts their predictions and puts them in flight."""

from __future__ import annotations

from worker.errors import ServingUnavailable, SourceLost
from worker.pipeline.in_flight import WindowInFlight, WindowsInFlight
from worker.pipeline.predicting import Predictor
from worker.pipeline.preparing import Preparation
from worker.ports import Events, Model, ServedModel, Source, Tracing
from worker.records import Window
from worker.state import Component, WorkerState

POLL_SECONDS = 0.5
"""How long a poll waits for records, and so how soon the reader sees that it should stop."""
FULL_SECONDS = 0.5
"""How long the reader waits for a free window slot before it polls with its partitions paused, to stay in the group."""
PAUSED_SECONDS = 0.1
"""How long each of those polls takes, and so how soon after a slot is free reading goes on."""

BUSY_SHARE = 0.25
"""A window this full is a sign of load: a poll seldom brings a whole one, since it takes what the client has at hand."""


class Reader:
    """Owns the source. Every call from one thread."""

    def __init__(
        self,
        source: Source,
        model: Model,
        windows: WindowsInFlight,
        *,
        preparation: Preparation,
        predictor: Predictor,
        state: WorkerState,
        events: Events,
        tracing: Tracing,
        max_windows: int,
        window_records: int,
    ) -> None:
        self._source = source
        self._model = model
        self._windows = windows
        self._preparation = preparation
        self._predictor = predictor
        self._state = state
        self._events = events
        self._tracing = tracing
        self._max_windows = max_windows
        self._window_records = window_records
        self._busy = False
        """Whether the last window was so full that more records wait than one window holds."""

    def turn(self) -> None:
        """At most one poll, at most one window put in flight. Raises what the source raises, but for SourceLost."""
        epoch, rewind = self._windows.begin_turn()
        if rewind:
            self._source.rewind()
        served = self._usable_model()
        if served is None or not self._room():
            # Not idle: polling keeps us in the group and lets us see a rebalance.
            self._source.pause()
            self._poll(PAUSED_SECONDS)
            return
        self._source.resume()
        window = self._poll(POLL_SECONDS)
        if window is not None:
            self._busy = len(window.records) >= self._window_records * BUSY_SHARE
            # The version may have changed while the poll waited for records.
            self._windows.put(self._prepared(window, self._usable_model() or served, epoch))

    def exhausted(self) -> bool:
        """Whether a bounded source has been read to its end and every window of it is delivered."""
        return self._windows.idle() and self._source.finished()

    def _poll(self, timeout_seconds: float) -> Window | None:
        try:
            window = self._source.poll(timeout_seconds)
        except SourceLost as lost:
            self._windows.drop_all(str(lost))
            return None
        self._events.lag(self._source.lag())
        if window is not None:
            self._events.polled(len(window.records), sum(len(record.value or b"") for record in window.records))
        return window

    def _usable_model(self) -> ServedModel | None:
        try:
            served = self._model.current()
        except ServingUnavailable as error:
            self._state.hold(Component.MODEL, str(error))
            return None
        self._state.release(Component.MODEL)
        return served

    def _room(self) -> bool:
        """Whether there is room for another window; waits a little for it."""
        # Small windows one after the other: beside one that is being delivered, another would only wait for its turn,
        # while a record that comes later can still join the next. Full ones overlap: there the work is the limit.
        return self._windows.wait_for_room(self._max_windows if self._busy else 1, FULL_SECONDS)

    def _prepared(self, window: Window, served: ServedModel, epoch: int) -> WindowInFlight:
        trace = self._tracing.polled(window)
        with trace.active():
            decoded = self._preparation.decode(window)
            encoded = self._preparation.encode(decoded, served, trace)
            return WindowInFlight(epoch, decoded, encoded, self._predictor.start(encoded, trace), trace)
