"""The only loop. Two threads share it:

- the reader (the caller of `run`) owns the source: poll → decode → encode → start the predictions;
- the deliverer takes the windows in the order of their polls: await the predictions → label → deliver.

A bounded number of windows lies between them, so predictions overlap and a commit's round trips hide behind the next
window's encoding, while order and commits stay as simple as in one thread. Whenever the right to what is in flight is
lost or in doubt (a rebalance, a failed delivery), all of it is dropped: the epoch moves on, the source goes back to the
committed offsets, and windows of an older epoch are thrown away unread.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import count
from threading import Condition, Event, Thread

import msgspec

from worker.errors import DeliveryFailed, ModelGone, ServingUnavailable, SourceLost
from worker.pipeline.dead_letter_limit import DeadLetterLimit
from worker.pipeline.labelling import label, probabilities
from worker.pipeline.predicting import Abandoned, Predictions, Predictor
from worker.pipeline.preparing import Decode, Decoded, Encoded, decode_window, encode_window
from worker.pipeline.shadow import Shadow
from worker.ports import Call, Clock, Delivery, Events, Model, Source
from worker.records import DeadLetter, Labelled, ServedModel, Window

POLL_SECONDS = 0.5
"""How long a poll waits for records, and so how soon the reader sees that it should stop."""
FULL_SECONDS = 0.5
"""How long the reader waits for a free window slot before it polls with its partitions paused, to stay in the group."""
PAUSED_SECONDS = 0.1
"""How long each of those polls takes, and so how soon after a slot is free reading goes on."""

BUSY_SHARE = 0.25
"""A window this full is a sign of load: a poll seldom brings a whole one, since it takes what the client has at hand."""


class Options(msgspec.Struct, frozen=True):
    """What the pipeline takes from the settings."""

    max_windows: int
    window_records: int
    """Records of a full window."""
    max_rows: int
    max_padded_tokens: int
    drain_seconds: float
    logits: bool = False
    all_scores: bool = False


class InFlight(msgspec.Struct):
    """A window between poll and commit."""

    epoch: int
    decoded: Decoded
    encoded: Encoded
    calls: Sequence[Call]

    def cancel(self) -> None:
        """Gives its predictions up."""
        for call in self.calls:
            call.cancel()


class Pipeline:
    """Moves windows from the source through the model to the delivery until it is stopped."""

    def __init__(
        self,
        source: Source,
        model: Model,
        delivery: Delivery,
        *,
        decode: Decode,
        predictor: Predictor,
        dead_letter_limit: DeadLetterLimit,
        events: Events,
        clock: Clock,
        abandon: Event,
        options: Options,
        shadow: Shadow | None = None,
    ) -> None:
        self._source = source
        self._model = model
        self._delivery = delivery
        self._decode = decode
        self._predictor = predictor
        self._dead_letter_limit = dead_letter_limit
        self._events = events
        self._clock = clock
        self._options = options
        self._shadow = shadow
        self._stop = Event()
        self._abandon = abandon
        self._changed = Condition()
        """Guards everything below, and wakes whoever waits for it to change."""
        self._windows: deque[InFlight] = deque()
        self._taken = 0
        """Windows the deliverer holds: 0 or 1."""
        self._epoch = 0
        self._rewind = False
        self._reader_done = False
        self._waiting_for_model = False
        self._holding = False
        self._busy = False
        """Whether the last window was so full that more records wait than one window holds."""
        self._gave_up = False
        self.complete = False
        """After `run`: whether a bounded source was read to its end and every window of it is delivered."""
        self._failure: BaseException | None = None

    # --- the outside ---------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Runs until `stop`, the source's end or an error. Returns whether everything polled was also delivered; `complete`
        then tells whether that was all there is.

        Raises what stopped the reader or the deliverer."""
        deliverer = Thread(target=self._deliver_all, name="deliverer", daemon=True)
        deliverer.start()
        self._events.state("running")
        try:
            while not self._stop.is_set() and not self._exhausted():
                self.read_turn()
        except BaseException:
            self.stop(hard=True)
            raise
        finally:
            drained = self._drain(deliverer)
        if self._failure is not None:
            raise self._failure
        self.complete = drained and self._exhausted()
        return drained

    def stop(self, *, hard: bool = False) -> None:
        """Ends `run`: softly, finishing what is in flight within the drain time; hard, giving it up. Never blocks;
        safe in a signal handler, since it takes no lock."""
        if hard:
            self._abandon.set()
        self._stop.set()

    # --- the reader ----------------------------------------------------------------------------------------------

    def read_turn(self) -> None:
        """One turn of the reader: at most one poll, at most one window put in flight."""
        epoch, rewind = self._begin_turn()
        if rewind:
            self._source.rewind()
        served = self._usable_model()
        if served is None or not self._wait_for_slot():
            # Held, not idle: polling keeps us in the group and lets us see a rebalance.
            self._holding = True
            self._source.pause()
            self._poll(PAUSED_SECONDS)
            return
        self._holding = False
        self._source.resume()
        window = self._poll(POLL_SECONDS)
        if window is not None:
            self._busy = len(window.records) >= self._options.window_records * BUSY_SHARE
            # The version may have changed while the poll waited for records.
            self._put(self._prepare(window, self._usable_model() or served, epoch))

    def _exhausted(self) -> bool:
        """Whether a bounded source has been read to its end and every window of it is delivered."""
        with self._changed:
            pending = bool(self._windows) or self._taken or self._rewind
        return not pending and self._source.finished()

    def _begin_turn(self) -> tuple[int, bool]:
        """The epoch this turn's window belongs to, and whether to go back first. Both under one lock and before the
        poll: a window polled before a rewind must never count as one polled after it, or what was dropped is lost."""
        with self._changed:
            rewind, self._rewind = self._rewind, False
            return self._epoch, rewind

    def _poll(self, timeout_seconds: float) -> Window | None:
        try:
            window = self._source.poll(timeout_seconds)
        except SourceLost as lost:
            self._drop_all(str(lost))
            return None
        self._events.lag(self._source.lag())
        if window is not None:
            self._events.polled(len(window.records), sum(len(record.value or b"") for record in window.records))
        return window

    def _usable_model(self) -> ServedModel | None:
        try:
            served = self._model.current()
        except ServingUnavailable as error:
            self._waiting_for_model = True
            self._events.state("holding", str(error))
            return None
        if self._waiting_for_model:
            self._waiting_for_model = False
            self._events.state("running")
        return served

    def _wait_for_slot(self) -> bool:
        """Whether there is room for another window; waits a little for it."""
        # Small windows one after the other: beside one that is being delivered, another would only wait for its turn,
        # while a record that comes later can still join the next. Full ones overlap: there the work is the limit.
        room = self._options.max_windows if self._busy else 1
        with self._changed:
            return self._changed.wait_for(lambda: len(self._windows) + self._taken < room or self._rewind, FULL_SECONDS)

    def _prepare(self, window: Window, served: ServedModel, epoch: int) -> InFlight:
        started = self._clock.monotonic()
        decoded = decode_window(window, self._decode)
        self._events.decoded(self._clock.monotonic() - started, len(decoded.reviews), len(decoded.dead_letters))
        encoded = self._encode(decoded, served)
        return InFlight(epoch, decoded, encoded, self._predictor.start(encoded))

    def _encode(self, decoded: Decoded, served: ServedModel) -> Encoded:
        """Also called by the deliverer, when the version a window was encoded for is gone."""
        started = self._clock.monotonic()
        encoded = encode_window(
            decoded, served, max_rows=self._options.max_rows, max_padded_tokens=self._options.max_padded_tokens
        )
        tokens = sum(row.tokens for row in encoded.rows)
        truncated = sum(row.truncated for row in encoded.rows)
        self._events.encoded(self._clock.monotonic() - started, len(encoded.rows), tokens, truncated)
        for batch in encoded.batches:
            real = sum(encoded.rows[index].tokens for index in batch.rows)
            self._events.batched(len(batch.rows), real, batch.longest * len(batch.rows))
        return encoded

    def _put(self, window: InFlight) -> None:
        with self._changed:
            if window.epoch != self._epoch:
                # A delivery failed since this turn began: the source goes back and reads this window again.
                window.cancel()
                return
            self._windows.append(window)
            self._events.in_flight(len(self._windows) + self._taken)
            self._changed.notify_all()

    # --- the deliverer -------------------------------------------------------------------------------------------

    def _deliver_all(self) -> None:
        try:
            while (window := self._next()) is not None:
                self.deliver_turn(window)
                with self._changed:
                    self._taken = 0
                    self._events.in_flight(len(self._windows))
                    self._changed.notify_all()
        except Abandoned:
            self._gave_up = True
        except BaseException as error:  # noqa: BLE001  carried to the reader's thread, which raises it
            self._failure = error
        finally:
            self.stop()

    def _next(self) -> InFlight | None:
        """The oldest window; None once the worker stops and nothing is left."""
        with self._changed:
            while not self._windows:
                if self._reader_done:
                    return None
                self._changed.wait(POLL_SECONDS)
            self._taken = 1
            return self._windows.popleft()

    def deliver_turn(self, window: InFlight) -> None:
        """One turn of the deliverer: the answers of one window, published and committed together."""
        try:
            encoded, predictions = self._predict(window)
            results, dead_letters = self._answers(window.decoded, encoded, predictions)
            if window.epoch != self._epoch:
                return
            self._dead_letter_limit.check(len(results), len(dead_letters))
            self._deliver(window.decoded.window, results, dead_letters)
            if self._shadow is not None:
                self._shadow.offer(window.decoded, results)
        except DeliveryFailed as failed:
            self._drop_all(str(failed), rewind=True)

    def _predict(self, window: InFlight) -> tuple[Encoded, Predictions]:
        """The window's predictions; encoded again for another version as often as its version goes away."""
        encoded, calls = window.encoded, window.calls
        for times in count(1):
            try:
                return encoded, self._predictor.finish(encoded, calls)
            except ModelGone as gone:
                served = self._predictor.wait_for_version(gone, times)
                encoded = self._encode(window.decoded, served)
                calls = self._predictor.start(encoded)
        raise AssertionError  # count() does not end

    def _answers(
        self, decoded: Decoded, encoded: Encoded, predictions: Predictions
    ) -> tuple[list[Labelled], list[DeadLetter]]:
        results: list[Labelled] = []
        dead_letters = list(decoded.dead_letters)
        logits, all_scores, served = self._options.logits, self._options.all_scores, encoded.served
        for index, (record, review, row) in enumerate(zip(decoded.records, decoded.reviews, encoded.rows, strict=True)):
            rejection = predictions.rejections.get(index)
            if rejection is None:
                scores = probabilities(predictions.outputs[index], logits=logits)
                results.append(label(record, review, row, scores, served, all_scores=all_scores))
            else:
                dead_letters.append(DeadLetter(record, rejection.reason, rejection.detail, "predict"))
        return results, dead_letters

    def _deliver(self, window: Window, results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]) -> None:
        started = self._clock.monotonic()
        replaced = self._delivery.deliver(window, results, dead_letters)
        if replaced:
            gone = {letter.record.result_id for letter in replaced}
            results = [result for result in results if result.record.result_id not in gone]
            dead_letters = [*dead_letters, *replaced]
        now_ms = self._clock.time() * 1000
        self._events.delivered(
            self._clock.monotonic() - started,
            Counter(result.label for result in results),
            Counter(letter.reason.value for letter in dead_letters),
            [(now_ms - record.timestamp_ms) / 1000 for record in window.records],
            window.next_offsets.keys(),
        )
        self._dead_letter_limit.count(len(results), len(dead_letters))

    # --- both ----------------------------------------------------------------------------------------------------

    def _drop_all(self, why: str, *, rewind: bool = False) -> None:
        """Nothing in flight may be delivered any more; with `rewind`, the reader goes back to the committed offsets
        before its next poll."""
        with self._changed:
            self._epoch += 1
            self._rewind = self._rewind or rewind
            dropped = len(self._windows)
            for window in self._windows:
                window.cancel()
            self._windows.clear()
            self._events.dropped(dropped + self._taken, why)
            self._changed.notify_all()

    def _drain(self, deliverer: Thread) -> bool:
        """Waits for the deliverer within the drain time. Whether it delivered everything."""
        self._events.state("draining")
        self._reader_done = True
        with self._changed:
            self._changed.notify_all()
        deadline = self._clock.monotonic() + self._options.drain_seconds
        while deliverer.is_alive() and self._clock.monotonic() < deadline and not self._abandon.is_set():
            deliverer.join(0.05)
        finished = not deliverer.is_alive()
        self._abandon.set()
        # A rewind that nobody made any more: a delivery failed, and what was dropped with it is still to be read again.
        return finished and not self._windows and not self._gave_up and not self._rewind
