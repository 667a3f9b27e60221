"""The deliverer's side of the loop: awaits a window's predictions, labels them, and publishes and commits the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from worker.errors import DeliveryFailed, ModelGone
from worker.pipeline.dead_letter_limit import DeadLetterLimit
from worker.pipeline.in_flight import Void, WindowInFlight, WindowsInFlight
from worker.pipeline.labelling import label, passed_on, probabilities
from worker.pipeline.predicting import Predictions, Predictor
from worker.pipeline.preparing import Preparation
from worker.pipeline.shadow import Shadow
from worker.ports import Clock, Delivery, Events
from worker.records import DeadLetter, Labelled


class Deliverer:
    """Owns the delivery. Every call from one thread."""

    def __init__(
        self,
        delivery: Delivery,
        windows: WindowsInFlight,
        *,
        preparation: Preparation,
        predictor: Predictor,
        limit: DeadLetterLimit,
        shadow: Shadow | None,
        events: Events,
        clock: Clock,
        logits: bool,
        all_scores: bool,
        pass_attributes: Sequence[str],
    ) -> None:
        self._delivery = delivery
        self._windows = windows
        self._preparation = preparation
        self._predictor = predictor
        self._limit = limit
        self._shadow = shadow
        self._events = events
        self._clock = clock
        self._logits = logits
        self._all_scores = all_scores
        self._pass_attributes = pass_attributes

    def run(self) -> None:
        """Delivers windows until no more come. Raises what ends the worker: Fenced, DeadLetterLimitReached, …"""
        while (window := self._windows.next()) is not None:
            with window.trace.active():
                self.turn(window)
                self._windows.done()

    def turn(self, window: WindowInFlight) -> None:
        """The answers of one window, published and committed together; nothing where it became void meanwhile."""
        try:
            predictions = self._predictions(window)
            results, dead_letters = self._answers(window, predictions)
            window.check()
            self._limit.check(len(results), len(dead_letters))
            self._deliver(window, results, dead_letters)
        except Void:
            return
        except DeliveryFailed as failed:
            self._windows.drop_all(str(failed), rewind=True)
            return
        if self._shadow is not None:
            self._shadow.offer(window.decoded, results)

    def _predictions(self, window: WindowInFlight) -> Predictions:
        """The window's predictions; it is encoded again for another version as often as its version goes away."""
        times = 0
        while True:
            try:
                return self._predictor.finish(window)
            except ModelGone as gone:
                times += 1
                window.cancel_calls()
                served = self._predictor.wait_for_version(window, gone, times)
                encoded = self._preparation.encode(window.decoded, served, window.trace)
                window.encoded_again(encoded, self._predictor.start(encoded, window.trace))

    def _answers(self, window: WindowInFlight, predictions: Predictions) -> tuple[list[Labelled], list[DeadLetter]]:
        results: list[Labelled] = []
        decoded, encoded = window.decoded, window.encoded
        dead_letters = list(decoded.dead_letters)
        logits, all_scores, served, rows = self._logits, self._all_scores, encoded.served, encoded.rows
        wanted = self._pass_attributes
        each = zip(decoded.records, decoded.reviews, rows.tokens, strict=True)
        for index, (record, review, tokens) in enumerate(each):
            rejection = predictions.rejections.get(index)
            if rejection is None:
                scores = probabilities(predictions.outputs[index], logits=logits)
                truncated = rows.is_truncated(index)
                results.append(
                    label(
                        record,
                        review,
                        scores,
                        served,
                        tokens=tokens,
                        truncated=truncated,
                        all_scores=all_scores,
                        attributes=passed_on(review.attributes, wanted) if wanted else None,
                    )
                )
            else:
                dead_letters.append(DeadLetter(record, rejection.reason, rejection.detail, "predict"))
        return results, dead_letters

    def _deliver(
        self, in_flight: WindowInFlight, results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]
    ) -> None:
        window = in_flight.decoded.window
        started = self._clock.monotonic()
        contexts = in_flight.trace.answered(results, dead_letters)
        if contexts:
            window = msgspec.structs.replace(window, contexts=contexts)
        replaced = self._delivery.deliver(window, results, dead_letters)
        in_flight.trace.delivered(replaced)
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
        self._limit.count(len(results), len(dead_letters))
