"""A window becomes reviews, rows and micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from protos.codecs import ReviewMessage
from worker.errors import InvalidReview
from worker.pipeline.batching import Limits, plan
from worker.ports import Clock, Events, Rows, ServedModel, WindowTrace
from worker.records import Batch, DeadLetter, Record, Window

Decode = Callable[[Record], ReviewMessage]
"""The review, with an id in any case. Raises InvalidReview for a record that can never be answered."""


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """A window's records, told apart: `records[i]` holds `reviews[i]`; the rest are dead letters."""

    window: Window
    records: Sequence[Record]
    reviews: Sequence[ReviewMessage]
    dead_letters: Sequence[DeadLetter]


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """The reviews of a window, encoded for exactly one model version: row i is review i."""

    served: ServedModel
    rows: Rows
    batches: Sequence[Batch]


def decode_window(window: Window, decode: Decode) -> Decoded:
    """Every record of the window ends in exactly one of the two lists, in its order. Pure."""
    records: list[Record] = []
    reviews: list[ReviewMessage] = []
    dead_letters: list[DeadLetter] = []
    for record in window.records:
        try:
            reviews.append(decode(record))
            records.append(record)
        except InvalidReview as invalid:
            dead_letters.append(DeadLetter(record, invalid.reason, invalid.detail))
    return Decoded(window, records, reviews, dead_letters)


def encode_window(decoded: Decoded, served: ServedModel, limits: Limits) -> Encoded:
    """Encodes the reviews for `served` and cuts them into batches within the limits, also where the model wants every row
    at one length. Pure."""
    rows = served.encoder.encode_many([review.text for review in decoded.reviews])
    tokens = rows.tokens if served.length is None else [served.length] * len(decoded.reviews)
    batches = plan(tokens, limits)
    return Encoded(served, rows, batches)


class Preparation:
    """Decodes and encodes windows, and tells of it. Safe from several threads."""

    def __init__(self, decode: Decode, limits: Limits, *, events: Events, clock: Clock) -> None:
        self._decode = decode
        self._limits = limits
        self._events = events
        self._clock = clock

    def decode(self, window: Window) -> Decoded:
        """See decode_window."""
        started = self._clock.monotonic()
        decoded = decode_window(window, self._decode)
        self._events.decoded(self._clock.monotonic() - started, len(decoded.reviews), len(decoded.dead_letters))
        return decoded

    def encode(self, decoded: Decoded, served: ServedModel, trace: WindowTrace) -> Encoded:
        """See encode_window."""
        started = self._clock.monotonic()
        with trace.encoding(served):
            encoded = encode_window(decoded, served, self._limits)
        tokens = encoded.rows.tokens
        self._events.encoded(self._clock.monotonic() - started, len(tokens), sum(tokens), encoded.rows.truncated)
        for batch in encoded.batches:
            real = sum(map(tokens.__getitem__, batch.rows))
            self._events.batched(len(batch.rows), real, batch.longest * len(batch.rows))
        return encoded
