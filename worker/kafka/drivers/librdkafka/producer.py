"""The producer: driver.Producer over a confluent_kafka.Producer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Producer

from worker.kafka.driver import Commit, KafkaFailure, NotSent, Outgoing, TooLarge, Unreachable
from worker.kafka.drivers.librdkafka.admin import named
from worker.kafka.drivers.librdkafka.errors import Heard, ours
from worker.kafka.drivers.timeouts import call_with_timeout
from worker.ports import Clock
from worker.records import Membership, Partition

BATCH_BYTES = 262_144
SMALLEST_BATCH_BYTES = 1_024
DISCARD_SECONDS = 2.0
GRACE_SECONDS = 0.5
"""For the client to tell by itself, and more exactly, that its time is up."""
FLUSH_SECONDS = 0.05
"""How often it is looked whether a record has failed: once one has, a flush lasts until its time is up."""
SLOW_CALL_SECONDS = 0.35
"""Offsets or a commit that took longer may have been sent twice: the client waits for 0.8 × options.PRODUCER_RETRY_MS at
least before it sends a request again, and tells nobody."""


class BatchSize:
    """How large the batches of producers still to be opened are. The brokers refuse a batch that is larger than its topic
    takes, and this client never splits one."""

    def __init__(self) -> None:
        self.bytes = BATCH_BYTES
        self.limited = False
        """Whether `limit` was called."""

    def limit(self, topics_bytes: Sequence[int]) -> None:
        """What topics take, as far as that is known. A refused batch costs a window's delivery; and at least once, batches
        behind it may get through before it."""
        self.limited = True
        self.bytes = max(SMALLEST_BATCH_BYTES, min([self.bytes, *(int(0.9 * limit) for limit in topics_bytes)]))

    def refused(self, record_bytes: int, batch_bytes: int) -> None:
        """A batch with a record of `record_bytes` was refused. Was the record smaller than `batch_bytes`, then so is what
        the topic takes. A larger one is a batch by itself, and tells nothing."""
        if record_bytes <= batch_bytes:
            self.bytes = max(SMALLEST_BATCH_BYTES, batch_bytes // 2)


class LibrdkafkaProducer:
    """See driver.Producer."""

    def __init__(
        self,
        client: Producer,
        clock: Clock,
        *,
        heard: Heard,
        batch_size: BatchSize,
        delivery_timeout_seconds: float,
        transaction_timeout_seconds: float,
    ) -> None:
        self._clients = [client]
        """Emptied when it is discarded: the client ends with the last reference to it."""
        self._clock = clock
        self._heard = heard
        self._batch_size = batch_size
        self._batch_bytes = batch_size.bytes
        self._delivery_seconds = delivery_timeout_seconds
        self._transaction_seconds = transaction_timeout_seconds
        self._failed: list[NotSent] = []
        """Records of the window that is being sent."""
        self._reports: list[Callable[[KafkaError | Exception | None, object], None]] = []
        self._slowest_seconds = 0.0
        """The longest call of this transaction that does harm when it comes late."""

    @property
    def _client(self) -> Producer:
        if not self._clients:
            raise KafkaFailure("this producer was discarded")
        return self._clients[0]

    def begin(self) -> None:
        """See driver.Producer."""
        self._slowest_seconds = 0.0
        with self._told():
            self._client.begin_transaction()

    def send(self, outgoing: Sequence[Outgoing]) -> Sequence[NotSent]:
        """See driver.Producer."""
        self._failed.clear()
        produce, reports = self._client.produce, self._delivery_reports(len(outgoing))
        headers: list[tuple[str, bytes]] = []
        sendable = headers
        for out, report in zip(outgoing, reports, strict=False):
            if out.headers is not headers:  # a window's results have one list of headers in common
                headers, sendable = out.headers, _sendable(out.headers)
            partition = -1 if out.partition is None else out.partition
            try:
                # No keywords: it is called for each record. A timestamp of 0 is the time of sending.
                produce(out.topic, out.value, out.key, partition, report, None, out.timestamp_ms or 0, sendable)
            except (KafkaException, BufferError) as error:
                report(error, None)
                if not isinstance(self._failed[-1].failure, TooLarge):
                    break
        self._flush()
        failed = list(self._failed)
        for place, failure in failed:
            if isinstance(failure, TooLarge):
                self._batch_size.refused(_size_bytes(outgoing[place]), self._batch_bytes)
        return failed

    def _delivery_reports(self, count: int) -> Sequence[Callable[[KafkaError | Exception | None, object], None]]:
        """A callback for each place in a window: it notes that the record there has failed. The same for every window, since
        an object of its own for each record is what costs most in sending it."""
        for place in range(len(self._reports), count):
            self._reports.append(partial(self._report, place))
        return self._reports

    def _report(self, place: int, error: KafkaError | Exception | None, _message: object) -> None:
        """The client calls it within a flush, for records that failed only."""
        if error is not None:
            self._failed.append(NotSent(place, self._ours(error)))

    def _flush(self) -> None:
        """Returns once all are acknowledged, or one has failed: the rest need not be waited for then."""
        deadline = self._clock.monotonic() + self._delivery_seconds
        with self._told():
            while self._client.flush(FLUSH_SECONDS) and not self._failed:
                if self._clock.monotonic() >= deadline:
                    raise Unreachable(f"not all records were acknowledged within {self._delivery_seconds:g} s")

    def send_offsets(self, offsets: Mapping[Partition, int], metadata: str, membership: Membership) -> None:
        """See driver.Producer. The client forgets its own limit while it waits for the group's coordinator, and can wait for
        ever (librdkafka issues 5456 and 5511)."""
        send, seconds = self._client.send_offsets_to_transaction, self._transaction_seconds
        commits = named(offsets, metadata)
        self._timed(
            lambda: call_with_timeout(seconds + GRACE_SECONDS, lambda: send(commits, membership.token, seconds))
        )

    def commit(self) -> Commit:
        """See driver.Producer. The client itself refuses it where a record has failed."""
        self._timed(lambda: self._client.commit_transaction(self._transaction_seconds))
        return Commit.DOUBTFUL if self._in_doubt() else Commit.CERTAIN

    def abort(self) -> None:
        """See driver.Producer."""
        with self._told():
            self._client.abort_transaction(self._transaction_seconds)

    def discard(self) -> None:
        """See driver.Producer. The client's own close() would abort the transaction, and wait for that without a limit."""
        with suppress(KafkaFailure, KafkaException):
            if self._clients:
                self._clients[0].purge()
                call_with_timeout(DISCARD_SECONDS, self._clients.clear)

    def _in_doubt(self) -> bool:
        """Whether a request of the transaction that has just been committed may still be under way."""
        return self._slowest_seconds >= SLOW_CALL_SECONDS

    def _timed(self, call: Callable[[], object]) -> None:
        began = self._clock.monotonic()
        with self._told():
            call()
        self._slowest_seconds = max(self._slowest_seconds, self._clock.monotonic() - began)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raises what the client raises within it as ours."""
        try:
            yield
        except (KafkaException, BufferError) as error:
            raise self._ours(error) from error

    def _ours(self, error: KafkaError | BaseException) -> KafkaFailure:
        told = error.args[0] if isinstance(error, KafkaException) else error
        if isinstance(told, KafkaError) and told.code() == KafkaError._FATAL and self._heard.fatal is not None:
            return self._heard.fatal
        return ours(error)


def _sendable(headers: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """A surrogate in a name would end the process."""
    if all(name.isascii() for name, _ in headers):
        return headers
    return [(name.encode(errors="replace").decode(), content) for name, content in headers]


def _size_bytes(out: Outgoing) -> int:
    return len(out.key or b"") + len(out.value or b"") + sum(len(name) + len(content) for name, content in out.headers)
