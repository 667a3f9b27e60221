"""Finds dead letters: by reason, partition and time, or one by its position."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import NamedTuple

from producer.connection import Connection
from producer.errors import NoInput, UsageError
from producer.interruption import Interruption
from producer.reading import Offsets, TopicReader
from protos.dead_letters import DeadLetterInfo, parse
from worker.records import Record

DEFAULT_TOPIC = "reviews-dead-letter"
_UNITS_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Found(NamedTuple):
    """One dead letter."""

    record: Record
    """As it lies in the dead-letter topic."""
    info: DeadLetterInfo
    """What its headers say."""

    @property
    def position(self) -> str:
        """`partition/offset` in the dead-letter topic; what `show` takes."""
        return f"{self.record.partition}/{self.record.offset}"

    @property
    def source(self) -> str:
        """`topic/partition/offset` of the record that failed."""
        return f"{self.info.topic}/{self.info.partition}/{self.info.offset}" if self.info.topic else ""

    @property
    def failed_at_ms(self) -> int:
        """When it failed, in milliseconds since the epoch; without a header, when it was written."""
        return self.info.failed_at_ms if self.info.failed_at_ms >= 0 else self.record.timestamp_ms


class Filter(NamedTuple):
    """Which dead letters are meant; all by default."""

    reasons: Collection[str] = ()
    partitions: Collection[int] = ()
    """Partitions of the dead-letter topic."""
    since_ms: int | None = None
    """Written at this time or later, in milliseconds since the epoch."""
    until_ms: int | None = None
    """Written before this time."""

    def fits(self, found: Found) -> bool:
        """Whether this dead letter is meant."""
        return (
            (not self.reasons or found.info.reason in self.reasons)
            and (not self.partitions or found.record.partition in self.partitions)
            and (self.since_ms is None or found.record.timestamp_ms >= self.since_ms)
            and (self.until_ms is None or found.record.timestamp_ms < self.until_ms)
        )

    def start(self, reader: TopicReader) -> Offsets:
        """Where to begin so that nothing that fits is missed. Raises UsageError for a partition that is not there."""
        if unknown := set(self.partitions) - set(reader.earliest):
            raise UsageError(
                f"Topic “{reader.topic}” has no partition {min(unknown)}, only 0 to {max(reader.earliest)}."
            )
        start = reader.earliest if self.since_ms is None else reader.at_time(self.since_ms)
        return {number: at for number, at in start.items() if not self.partitions or number in self.partitions}


ALL = Filter()


def find(
    connection: Connection,
    topic: str = DEFAULT_TOPIC,
    wanted: Filter = ALL,
    interruption: Interruption | None = None,
) -> Iterator[Found]:
    """The dead letters that are there now and fit, in order within each partition. Raises Unavailable."""
    with TopicReader(connection, topic) as reader:
        for records in reader.read(wanted.start(reader), reader.end, interruption=interruption):
            yield from (found for found in map(as_found, records) if wanted.fits(found))


def fetch(connection: Connection, topic: str, position: str) -> Found:
    """The dead letter at `partition/offset`. Raises UsageError, NoInput where there is none, Unavailable."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,18})", position)
    if match is None:
        raise UsageError(f"{position!r} is no position; give PARTITION/OFFSET, as `dead-letters list` prints it: 0/17.")
    partition, offset = int(match[1]), int(match[2])
    with TopicReader(connection, topic) as reader:
        if partition not in reader.end:
            raise NoInput(f"Topic “{topic}” has no partition {partition}, only 0 to {max(reader.end)}.")
        first, end = reader.earliest[partition], reader.end[partition]
        if first <= offset < end:
            for records in reader.read({partition: offset}, {partition: offset + 1}):
                for record in records:
                    return as_found(record)
    held = f"it holds offsets {first} to {end - 1}" if end > first else "it is empty"
    raise NoInput(f"No dead letter at {topic}/{position}: {held}, and transaction markers take some of the numbers.")


def as_found(record: Record) -> Found:
    """A record of the dead-letter topic with its headers read. Never raises."""
    return Found(record, parse(record.headers))


def time_ms(text: str, now_seconds: float | None = None) -> int:
    """Milliseconds since the epoch for an ISO 8601 time (the local zone where it names none) or an age: 90s, 15m, 2h,
    3d, 1w ago. Raises UsageError."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text):
        now = time.time() if now_seconds is None else now_seconds
        return round((now - float(match[1]) * _UNITS_SECONDS[match[2]]) * 1000)
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{text!r} is no time; give an age such as 2h or 3d, or a time such as 2025-01-31T18:00."
        ) from None
