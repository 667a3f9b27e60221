"""The only loop. Two threads share it:

    reader:     poll ─► decode ─► encode ─► plan batches ─► start predictions ─┐   a few windows, in order
    deliverer:                                                                  └► await ─► label ─► publish and commit

so that a commit's round trips hide behind the next window's encoding, while order and commits stay as simple as in one
thread. Whenever the right to what is in flight is lost or in doubt (a rebalance, a failed delivery), all of it is dropped
and the source goes back to the committed offsets: see `in_flight`.
"""

from __future__ import annotations

from threading import Event, Thread
from typing import NamedTuple

import msgspec

from worker.backoff import Backoff
from worker.pipeline.batching import Limits
from worker.pipeline.dead_letter_limit import DeadLetterLimit
from worker.pipeline.deliverer import Deliverer
from worker.pipeline.in_flight import WindowsInFlight
from worker.pipeline.predicting import Predictor
from worker.pipeline.preparing import Decode, Preparation
from worker.pipeline.reader import Reader
from worker.pipeline.shadow import Shadow
from worker.ports import Clock, Delivery, Events, Model, Source, Tracing
from worker.state import Phase, WorkerState
from worker.untraced import Untraced

JOIN_SECONDS = 0.05
"""How often a drain looks whether it is over, or cut short."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the pipeline takes from the settings."""

    decode: Decode
    window_records: int
    """Records of a full window."""
    max_windows: int
    """Windows between poll and commit at most."""
    batch_limits: Limits
    backoff: Backoff
    max_strikes: int
    dead_letter_share: float
    dead_letter_run: int
    drain_seconds: float
    logits: bool = False
    all_scores: bool = False
    pass_attributes: tuple[str, ...] = ()
    """Names of a review's attributes that its result has, too."""


class Outcome(NamedTuple):
    """How a run ended."""

    drained: bool
    """Whether everything that was polled is delivered."""
    complete: bool
    """Whether that was all there is: a bounded source was read to its end."""


class Pipeline:
    """Moves windows from the source through the model to the delivery until it is stopped."""

    def __init__(
        self,
        reader: Reader,
        deliverer: Deliverer,
        windows: WindowsInFlight,
        *,
        state: WorkerState,
        clock: Clock,
        abandon: Event,
        drain_seconds: float,
    ) -> None:
        """`abandon` is set once what is in flight is given up: whatever waits in an adapter ends then."""
        self._reader = reader
        self._deliverer = deliverer
        self._windows = windows
        self._state = state
        self._clock = clock
        self._abandon = abandon
        self._drain_seconds = drain_seconds
        self._stop = Event()
        self._failure: BaseException | None = None

    def run(self) -> Outcome:
        """Runs until `stop`, the source's end or an error. Raises what stopped the reader or the deliverer."""
        deliverer = Thread(target=self._deliver, name="deliverer", daemon=True)
        deliverer.start()
        self._state.enter(Phase.RUNNING)
        try:
            while not self._stop.is_set() and not self._reader.exhausted():
                self._reader.turn()
        except BaseException:
            self.stop(hard=True)
            raise
        finally:
            drained = self._drain(deliverer)
        if self._failure is not None:
            raise self._failure
        return Outcome(drained, complete=drained and self._reader.exhausted())

    def stop(self, *, hard: bool = False) -> None:
        """Ends `run`: softly, finishing what is in flight within the drain time, or hard, giving it up. Never blocks; not
        for a signal handler, since it takes locks."""
        self._stop.set()
        if hard:
            self._abandon.set()

    def _deliver(self) -> None:
        try:
            self._deliverer.run()
        except BaseException as error:  # noqa: BLE001  carried to the reader's thread, which raises it
            self._failure = error
        finally:
            self.stop()

    def _drain(self, deliverer: Thread) -> bool:
        """Waits for the deliverer within the drain time, then gives up what is left. Whether everything was delivered."""
        self._state.enter(Phase.DRAINING)
        self._windows.close()
        deadline = self._clock.monotonic() + self._drain_seconds
        while deliverer.is_alive() and self._clock.monotonic() < deadline and not self._abandon.is_set():
            deliverer.join(JOIN_SECONDS)
        drained = not deliverer.is_alive() and self._windows.drained
        if not drained:
            self._windows.drop_all("the worker stops")
        self._abandon.set()
        return drained


def assemble(
    source: Source,
    model: Model,
    delivery: Delivery,
    options: Options,
    *,
    state: WorkerState,
    events: Events,
    clock: Clock,
    abandon: Event,
    shadow: Shadow | None = None,
    tracing: Tracing | None = None,
) -> Pipeline:
    """The pipeline between these ports. Without `tracing`, log lines carry the window's number, and that is all."""
    windows = WindowsInFlight(events)
    preparation = Preparation(options.decode, options.batch_limits, events=events, clock=clock)
    predictor = Predictor(model, state, events, clock, backoff=options.backoff, max_strikes=options.max_strikes)
    reader = Reader(
        source,
        model,
        windows,
        preparation=preparation,
        predictor=predictor,
        state=state,
        events=events,
        tracing=tracing or Untraced(),
        max_windows=options.max_windows,
        window_records=options.window_records,
    )
    deliverer = Deliverer(
        delivery,
        windows,
        preparation=preparation,
        predictor=predictor,
        limit=DeadLetterLimit(share=options.dead_letter_share, run=options.dead_letter_run),
        shadow=shadow,
        events=events,
        clock=clock,
        logits=options.logits,
        all_scores=options.all_scores,
        pass_attributes=options.pass_attributes,
    )
    return Pipeline(
        reader, deliverer, windows, state=state, clock=clock, abandon=abandon, drain_seconds=options.drain_seconds
    )
