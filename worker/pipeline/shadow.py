"""Scores delivered reviews once more with a second model version, to compare the two before a rollout.

Nothing of it can touch the results: it begins after a window is delivered, runs in a thread of its own, and skips windows
it has no time for."""

from __future__ import annotations

from collections.abc import Sequence
from queue import Empty, Full, Queue
from threading import Event, Thread

import msgspec

from worker.errors import ServingUnavailable, WorkerError
from worker.pipeline.batching import Limits
from worker.pipeline.labelling import choose, probabilities
from worker.pipeline.preparing import Decoded, encode_window
from worker.ports import Events, Model, ServedModel
from worker.records import Labelled

WAITING_WINDOWS = 2
"""Windows that may wait; a further one is skipped, so that a slow shadow costs no memory."""
WAIT_SECONDS = 0.5
CLOSE_SECONDS = 2.0
"""How long closing waits for the thread. It is a daemon: one that still scores then ends with the process."""


class _Delivered(msgspec.Struct, frozen=True):
    decoded: Decoded
    results: Sequence[Labelled]


class Shadow:
    """Compares a second version with what was published. `offer` is the deliverer's; the rest runs aside."""

    def __init__(self, model: Model, events: Events, limits: Limits, *, logits: bool) -> None:
        self._model = model
        self._events = events
        self._limits = limits
        self._logits = logits
        self._queue: Queue[_Delivered] = Queue(WAITING_WINDOWS)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, decoded: Decoded, results: Sequence[Labelled]) -> None:
        """Takes a delivered window, or skips it when too many wait. Never blocks."""
        try:
            self._queue.put_nowait(_Delivered(decoded, results))
        except Full:
            self._events.shadow_skipped()

    def close(self) -> None:
        """Ends the thread; what waits and what is under way is given up. Waits for no server, however long it is silent."""
        self._stop.set()
        self._model.close()  # ends the calls that the thread may be waiting for
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                delivered = self._queue.get(timeout=WAIT_SECONDS)
            except Empty:
                continue
            try:
                self._compare(delivered)
            except WorkerError:
                # The shadow is away, gone or unfit: its own metrics say so, the stream does not care.
                self._events.shadow_skipped()

    def _version(self) -> ServedModel:
        try:
            return self._model.current()
        except ServingUnavailable:
            return self._model.refresh()

    def _compare(self, delivered: _Delivered) -> None:
        served = self._version()
        encoded = encode_window(delivered.decoded, served, self._limits)
        calls = [
            self._model.predict(served, encoded.rows.tensor(batch.rows, batch.longest)) for batch in encoded.batches
        ]
        published = {result.record.result_id: result for result in delivered.results}
        agreements, differences = 0, []
        for batch, call in zip(encoded.batches, calls, strict=True):
            for row, outputs in zip(batch.rows, call.result(), strict=True):
                result = published.get(delivered.decoded.records[row].result_id)
                if result is not None:
                    name, score = choose(probabilities(outputs, logits=self._logits), served)
                    agreements += name == result.label
                    differences.append(abs(score - result.score))
        self._events.shadowed(len(differences), agreements, differences)
