"""The producer: driver.Producer over a KafkaProducer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.producer.transaction_manager import EndTxnHandler, TxnOffsetCommitHandler

from worker.kafka.driver import Commit, NotSent, Outgoing, TooLarge
from worker.kafka.drivers.kafka_python.consumer import named
from worker.kafka.drivers.kafka_python.errors import ours, translated
from worker.kafka.drivers.timeouts import call_with_timeout
from worker.ports import Clock
from worker.records import Membership, Partition

CLOSE_SECONDS = 2.0
SLOW_CALL_SECONDS = 1.0
"""Offsets or a commit that took longer are taken for sent twice, whatever the client says."""

T = TypeVar("T")


class KafkaPythonProducer:
    """See driver.Producer."""

    def __init__(
        self,
        client: KafkaProducer,
        clock: Clock,
        *,
        delivery_timeout_seconds: float,
        transaction_timeout_seconds: float,
    ) -> None:
        self._client = client
        self._clock = clock
        self._delivery_seconds = delivery_timeout_seconds
        self._transaction_seconds = transaction_timeout_seconds
        self._resends = Resends(client)
        self._begun_as = (-1, -1)
        self._slowest_seconds = 0.0
        """The longest call of this transaction that does harm when it comes late."""
        self._discarded = False

    @property
    def identity(self) -> tuple[int, int]:
        """Producer id and epoch."""
        current = self._client._transaction_manager.producer_id_and_epoch
        return current.producer_id, current.epoch

    def begin(self) -> None:
        """See driver.Producer."""
        self._begun_as, self._slowest_seconds = self.identity, 0.0
        with translated():
            self._client.begin_transaction()

    def send(self, outgoing: Sequence[Outgoing]) -> Sequence[NotSent]:
        """See driver.Producer. Each record's own acknowledgement is looked at: the client's flush and even its commit can
        return although a record was given up."""
        futures: list[tuple[int, Any]] = []
        refused: list[NotSent] = []
        with translated():
            for index, out in enumerate(outgoing):
                try:
                    futures.append((index, self._sent(out)))
                except kafka_errors.KafkaError as error:
                    refused.append(NotSent(index, ours(error)))
                    if not isinstance(refused[-1].failure, TooLarge):
                        # A large record is a batch by itself and leaves at once: it can be refused while others are still
                        # being sent, and then the client takes no more of them.
                        break
            return [*self._acknowledged(futures), *refused]

    def _sent(self, out: Outgoing) -> Any:
        return self._client.send(
            out.topic,
            out.value,
            key=out.key,
            headers=out.headers,
            partition=out.partition,
            timestamp_ms=out.timestamp_ms,
        )

    def _acknowledged(self, futures: Sequence[tuple[int, Any]]) -> list[NotSent]:
        """Waits for all, and returns those that failed."""
        deadline = self._clock.monotonic() + self._delivery_seconds
        # flush() gives up on a batch that the broker found too large and that was split ("Future not done" is raised),
        # although its halves are under way: each record's own future tells.
        with suppress(kafka_errors.UnknownError):
            self._client.flush(self._delivery_seconds)
        failed: list[NotSent] = []
        for index, future in futures:
            try:
                if not future.is_done:
                    future.get(max(0.0, deadline - self._clock.monotonic()))
                elif future.exception is not None:
                    failed.append(NotSent(index, ours(future.exception)))
            except kafka_errors.KafkaError as error:
                failed.append(NotSent(index, ours(error)))
        return failed

    def send_offsets(self, offsets: Mapping[Partition, int], metadata: str, membership: Membership) -> None:
        """See driver.Producer."""
        self._timed(
            lambda: self._client.send_offsets_to_transaction(named(offsets, metadata), membership.token),
        )

    def commit(self) -> Commit:
        """See driver.Producer."""
        self._timed(self._client.commit_transaction)
        if self.identity != self._begun_as:
            # The client recovered from an error by itself: the broker aborted the transaction, yet commit "succeeded".
            raise ours(kafka_errors.TransactionAbortedError("the producer's epoch was bumped during the commit"))
        return Commit.DOUBTFUL if self._in_doubt() else Commit.CERTAIN

    def abort(self) -> None:
        """See driver.Producer."""
        self._limited(self._client.abort_transaction)

    def discard(self) -> None:
        """See driver.Producer."""
        if not self._discarded:
            self._discarded = True
            throw_away(self._client)

    def _in_doubt(self) -> bool:
        """Whether a request of the transaction that has just been committed may still be under way."""
        return self._resends.seen or self._slowest_seconds > SLOW_CALL_SECONDS

    def _timed(self, call: Callable[[], object]) -> None:
        began = self._clock.monotonic()
        self._limited(call)
        self._slowest_seconds = max(self._slowest_seconds, self._clock.monotonic() - began)

    def _limited(self, call: Callable[[], T]) -> T:
        """The client waits without a limit for these calls, whatever max_block_ms says."""
        with translated():
            return call_with_timeout(self._transaction_seconds, call)


def throw_away(client: KafkaProducer) -> None:
    """Ends a producer without sending what it still holds."""
    # close() with records pending raises and leaves the sending thread alive, which would go on sending them.
    client._sender.force_close()
    # Only its resources matter now; whatever it still says is about records we will send again.
    with suppress(Exception):
        call_with_timeout(CLOSE_SECONDS, lambda: client.close(timeout=0))


class Resends:
    """Watches one transactional producer for requests that it may have sent twice.

    The client sends a request again by TxnRequestHandler.reenqueue (producer/transaction_manager.py), and tells nobody.
    Watched are the two requests that do harm when their first copy comes late: the transaction's end and its offsets. A
    request that waits for its coordinator to be found goes back into the queue by another way, and does not count."""

    def __init__(self, client: KafkaProducer) -> None:
        self._seen = False
        manager = client._transaction_manager
        enqueue = manager._enqueue_request

        def watched(handler: Any) -> None:
            if isinstance(handler, (EndTxnHandler, TxnOffsetCommitHandler)) and not handler.is_retry:
                handler.reenqueue = partial(self._resend, handler.reenqueue)
            enqueue(handler)

        manager._enqueue_request = watched

    def _resend(self, reenqueue: Callable[[], None]) -> None:
        self._seen = True
        reenqueue()

    @property
    def seen(self) -> bool:
        """Whether any was. Settled for a call's requests once the call has returned."""
        return self._seen
