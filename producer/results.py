"""Reads labelled results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from producer.connection import Connection
from producer.errors import TimedOut
from producer.interruption import Interruption
from producer.reading import Offsets, TopicReader
from protos.codecs import CodecError, ResultMessage, decode_result
from worker.records import Record

DEFAULT_TOPIC = "review-labels"


class Received(NamedTuple):
    """One result and the record that held it."""

    result: ResultMessage
    record: Record
    """Its timestamp is when the worker published the result."""


def end_offsets(connection: Connection, topic: str = DEFAULT_TOPIC) -> Offsets:
    """Where the topic ends now: read from here to see only what comes after. Raises Unavailable."""
    with TopicReader(connection, topic) as reader:
        return reader.end


def read_results(
    connection: Connection,
    *,
    topic: str = DEFAULT_TOPIC,
    start: Mapping[int, int] | str = "earliest",
    follow: bool = False,
    count: int | None = None,
    timeout_seconds: float | None = None,
    on_undecodable: Callable[[Record, CodecError], None] | None = None,
    interruption: Interruption | None = None,
) -> Iterator[list[Received]]:
    """Batches of results, as they come; an empty batch whenever nothing came for a moment.

    `start` is `earliest`, `latest` or an offset for each partition. It reads up to what is there now, or for ever with
    `follow`; with `count` until so many have come, and raises TimedOut when they have not within `timeout_seconds`.
    A record that is no result goes to `on_undecodable` and is not counted.

    Raises Unavailable when Kafka cannot be reached or has no such topic, KeyboardInterrupt when interrupted."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    received = 0
    with TopicReader(connection, topic) as reader:
        begin = {"earliest": reader.earliest, "latest": reader.end}[start] if isinstance(start, str) else start
        end = None if follow or count is not None else reader.end
        for records in reader.read(begin, end, deadline=deadline, interruption=interruption):
            batch = list(_decoded(records, on_undecodable))
            if count is not None:
                batch = batch[: count - received]
            received += len(batch)
            yield batch
            if count is not None and received >= count:
                return
    if count is not None:
        raise TimedOut(f"{received:,} of {count:,} results came within {timeout_seconds:g} seconds.")


def last_results(connection: Connection, topic: str, count: int) -> Offsets:
    """Offsets from which to read about the last `count` results of each partition.

    Transaction markers take offsets too, in the worst case one for each result: hence twice as many offsets."""
    with TopicReader(connection, topic) as reader:
        return {number: max(reader.earliest[number], end - 2 * count) for number, end in reader.end.items()}


def _decoded(records: list[Record], on_undecodable: Callable[[Record, CodecError], None] | None) -> Iterator[Received]:
    for record in records:
        try:
            yield Received(decode_result(record.value, record.headers), record)
        except CodecError as error:
            if on_undecodable is not None:
                on_undecodable(record, error)
