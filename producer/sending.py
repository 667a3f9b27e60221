"""Sends records with bounded memory and looks at the outcome of every single one.

kafka-python's accumulator has no limit of its own (the Java client's `buffer.memory` is not there), so the records
between `send` and their acknowledgement are counted here, and `wait_for_room` blocks while there are too many.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.partitioner import StickyPartitioner

from producer.connection import Connection
from producer.errors import ExitCode, ProducerError
from producer.interruption import Interruption

MAX_IN_FLIGHT_RECORDS = 20_000
MAX_IN_FLIGHT_BYTES = 32 << 20
DELIVERY_TIMEOUT_SECONDS = 60
TICK_SECONDS = 0.1
_EXAMPLES = 5


class ToSend(NamedTuple):
    """One record to send."""

    topic: str
    name: str
    """What an error message calls it: a file and line, a review id, a dead letter's position."""
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None
    """None: chosen by the key's hash, or by turns without a key."""


@dataclass
class Summary:
    """What became of everything that was to be sent."""

    sent: int = 0
    """Acknowledged by all in-sync replicas."""
    failed: int = 0
    unknown: int = 0
    """Sent, but given up before an answer came: Kafka may or may not have them."""
    skipped: int = 0
    """Input rows that were no reviews."""
    sent_bytes: int = 0
    """Keys, values and headers of what was acknowledged."""
    seconds: float = 0.0
    partitions: Counter[str] = field(default_factory=Counter)
    """Acknowledged records by `topic/partition`."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failed records by cause."""
    examples: list[str] = field(default_factory=list)
    """The first few failures: which record, and why."""
    interrupted: bool = False
    error: ProducerError | None = None
    """What ended the run early, if anything did."""

    @property
    def rate(self) -> float:
        """Acknowledged records per second."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def exit_code(self) -> ExitCode:
        """How a process with this outcome should end."""
        if self.failed or self.unknown:
            return ExitCode.FAILED
        if self.error is not None:
            return self.error.exit_code
        return ExitCode.INTERRUPTED if self.interrupted else ExitCode.OK


OnProgress = Callable[[Summary], None]


class Sending:
    """A run of sends. `send` and `wait_for_room` from one thread; acknowledgements come on the client's.

    A context manager: at its end it waits for what is in flight (`finish`). An interruption and a ProducerError end the
    run early; the summary says so, and they go no further.

    `on_progress` is called about ten times a second with the live summary."""

    def __init__(
        self,
        connection: Connection,
        *,
        interruption: Interruption | None = None,
        on_progress: OnProgress | None = None,
        max_in_flight_records: int = MAX_IN_FLIGHT_RECORDS,
        max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES,
    ) -> None:
        self.summary = Summary()
        self._allowed = (interruption or Interruption()).allowed
        self._on_progress = on_progress
        self._max_records = max_in_flight_records
        self._max_bytes = max_in_flight_bytes
        self._records = 0
        self._bytes = 0
        self._waiting = False
        self._given_up = False
        self._changed = threading.Condition()
        self._started = self._ticked = time.monotonic()
        self._producer = connection.producer(
            acks="all",
            linger_ms=20,  # long enough for full batches at full speed, short enough for a person at a terminal
            batch_size=256 << 10,
            delivery_timeout_ms=DELIVERY_TIMEOUT_SECONDS * 1000,
            max_block_ms=10_000,
            partitioner=StickyPartitioner(),  # reviews without a key fill one batch at a time
            metrics_enabled=False,
        )

    def __enter__(self) -> Sending:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if isinstance(error, KeyboardInterrupt):
            self.summary.interrupted = True
        elif isinstance(error, ProducerError):
            self.summary.error = error
        self.finish()
        return isinstance(error, (KeyboardInterrupt, ProducerError))

    def wait_for_room(self) -> None:
        """Blocks while too much waits for acknowledgement. Raises KeyboardInterrupt when interrupted."""
        self._tick()
        while self._records >= self._max_records or self._bytes >= self._max_bytes:
            self._wait()

    def send(self, outgoing: ToSend, on_acknowledged: Callable[[], None] | None = None) -> None:
        """Hands one record to the client; its outcome ends in the summary, whatever it is.

        `on_acknowledged` is called on the client's thread once the record is durable."""
        topic, name, value, key, headers, partition = outgoing
        size_bytes = len(value or b"") + len(key or b"") + sum(len(header) + len(data) for header, data in headers)
        with self._changed:
            self._records += 1
            self._bytes += size_bytes
        try:
            future = self._producer.send(topic, value, key, list(headers), partition)
        except (KafkaError, ValueError, TypeError) as error:
            self._failed(name, size_bytes, error)
            return
        future.add_callback(partial(self._acknowledged, size_bytes, on_acknowledged))
        future.add_errback(partial(self._failed, name, size_bytes))

    def finish(self) -> Summary:
        """Waits until every record has its outcome (an interruption ends the wait) and closes the client."""
        try:
            while self._records:
                self._wait()
        except KeyboardInterrupt:
            self.summary.interrupted = True
        with self._changed:
            self._given_up = True
            self.summary.unknown = self._records
            self.summary.seconds = time.monotonic() - self._started
        if self.summary.unknown:
            # close() with records pending raises and leaves the client's thread running; this lets it drop them.
            self._producer._sender.force_close()
        self._producer.close(timeout=10)
        return self.summary

    def _wait(self) -> None:
        with self._allowed, self._changed:
            self._waiting = True
            self._changed.wait(TICK_SECONDS)
        self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        if self._on_progress is not None and now - self._ticked >= TICK_SECONDS:
            self._ticked = now
            self.summary.seconds = now - self._started
            self._on_progress(self.summary)

    def _acknowledged(self, size_bytes: int, on_acknowledged: Callable[[], None] | None, metadata: Any) -> None:
        if on_acknowledged is not None:
            on_acknowledged()
        with self._changed:
            if not self._given_up:
                self.summary.sent += 1
                self.summary.sent_bytes += size_bytes
                self.summary.partitions[f"{metadata.topic}/{metadata.partition}"] += 1
                self._settled(size_bytes)

    def _failed(self, name: str, size_bytes: int, error: Exception) -> None:
        cause = _sentence(error)
        with self._changed:
            if self._given_up:
                return
            self.summary.failed += 1
            self.summary.failures[cause] += 1
            if len(self.summary.examples) < _EXAMPLES:
                self.summary.examples.append(f"{name}: {cause}")
            self._settled(size_bytes)

    def _settled(self, size_bytes: int) -> None:
        self._records -= 1
        self._bytes -= size_bytes
        # Woken at half, so that the two threads do not take turns record by record.
        if self._waiting and self._records <= self._max_records // 2 and self._bytes <= self._max_bytes // 2:
            self._waiting = False
            self._changed.notify()


def _sentence(error: Exception) -> str:
    """A cause short enough to count by: no sizes, offsets or ids in it."""
    if isinstance(error, KafkaTimeoutError):
        return f"not acknowledged within {DELIVERY_TIMEOUT_SECONDS} seconds"
    if isinstance(error, KafkaError):
        return _CAUSES.get(type(error).__name__, type(error).__name__)
    return str(error)


_CAUSES = {
    "MessageSizeTooLargeError": "larger than the 1 MiB this client sends at most",
    "RecordTooLargeError": "larger than the topic's max.message.bytes",
    "TopicAuthorizationFailedError": "not allowed to write to the topic",
    "UnknownTopicOrPartitionError": "the topic or partition is gone",
}
