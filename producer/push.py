"""Pushes reviews to Kafka: at full speed or at a rate, in bounded memory, with every delivery's outcome counted."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator

from producer.connection import Connection
from producer.inputs import BadRow, Entry, entry
from producer.interruption import Interruption
from producer.pacing import Pacer
from producer.sending import OnProgress, Sending, Summary, ToSend
from protos.codecs import CodecError, Form, ReviewMessage, encode_review

DEFAULT_TOPIC = "reviews"


def push(
    reviews: Iterable[ReviewMessage | Entry | BadRow],
    connection: Connection,
    *,
    topic: str = DEFAULT_TOPIC,
    wire: Form = Form.JSON,
    trace: bool = False,
    rate: float | None = None,
    limit: int | None = None,
    on_bad_row: Callable[[BadRow], None] | None = None,
    on_progress: OnProgress | None = None,
    interruption: Interruption | None = None,
) -> Summary:
    """Sends every review and returns once each one's outcome is known.

    A `ReviewMessage` is keyed by its id. With `trace` each review begins a trace of its own. `rate` is in reviews per
    second, None for full speed. A bad row goes to `on_bad_row`, which may raise a ProducerError to stop; without one
    it is only counted. A ProducerError raised by `reviews` or `on_bad_row` ends the run early and is in the summary's
    `error`; so does an interruption.

    Raises Unavailable when Kafka cannot be reached or has no such topic."""
    connection.partitions(topic)  # says at once what a send would find out after its whole timeout
    interruption = interruption or Interruption()
    pacer = Pacer(rate)
    with Sending(connection, interruption=interruption, on_progress=on_progress) as sending:
        for given in _interruptible(iter(reviews), interruption, limit):
            record = _record(given, topic, wire, trace=trace)
            if isinstance(record, BadRow):
                sending.summary.skipped += 1
                if on_bad_row is not None:
                    on_bad_row(record)
                continue
            with interruption.allowed:
                pacer.wait()
            sending.wait_for_room()
            sending.send(record)
    return sending.summary


def _record(given: ReviewMessage | Entry | BadRow, topic: str, wire: Form, *, trace: bool) -> ToSend | BadRow:
    if isinstance(given, BadRow):
        return given
    review, key, where = given if isinstance(given, Entry) else entry(given)
    try:
        headers = [*wire.headers, _new_trace()] if trace else wire.headers
        return ToSend(topic, where, encode_review(review, wire), key, headers)
    except CodecError as error:
        return BadRow(where, error.detail)


def _new_trace() -> tuple[str, bytes]:
    """The header of a new trace that is to be recorded (W3C Trace Context)."""
    return "traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01".encode()


def _interruptible(
    reviews: Iterator[ReviewMessage | Entry | BadRow], interruption: Interruption, limit: int | None
) -> Iterator[ReviewMessage | Entry | BadRow]:
    """Up to `limit` reviews (bad rows are not counted), each waited for where an interruption may come in."""
    left = limit
    while left is None or left > 0:
        with interruption.allowed:
            given = next(reviews, None)
        if given is None:
            return
        if left is not None and not isinstance(given, BadRow):
            left -= 1
        yield given
