"""Every use of what kafka-python keeps private: what it offers no public call for, and what it gets wrong.

Read in kafka-python 3.0.12. Each function says which file of the client it depends on; tests on a real broker hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.producer.transaction_manager import EndTxnHandler, TxnOffsetCommitHandler
from kafka.structs import OffsetAndMetadata

from worker.kafka.timeouts import call_with_timeout

CLOSE_SECONDS = 2.0


# --- consumer --------------------------------------------------------------------------------------------------------


def topic_id(consumer: KafkaConsumer, topic: str) -> str:
    """The topic's id (KIP-516) as far as the client's metadata knows it, else an empty string: a topic that was deleted
    and recreated has the same name but another id."""
    # The consumer has no public call for it, and the admin client would cost every start a second connection.
    found = consumer._cluster.topic_id(topic)
    return str(found) if found and found.int else ""


def position(consumer: KafkaConsumer, partition: TopicPartition) -> int:
    """The offset after what was handed out and after what no poll ever brings: the marks of transactions, aborted records,
    what compaction has removed. -1 while the client has none."""
    # Its public position() also asks the brokers for what is missing, which blocks and raises.
    state = consumer._subscription.assignment.get(partition)
    return state.position.offset if state is not None and state.position is not None else -1


def known_ends(consumer: KafkaConsumer, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Where each partition ended when it was last fetched; those that were not fetched yet are missing."""
    states = consumer._subscription.assignment
    ends = {partition: states[partition].highwater for partition in partitions if partition in states}
    return {partition: end for partition, end in ends.items() if end is not None}


def coordinator_known(consumer: KafkaConsumer) -> bool:
    """Whether the group's coordinator is in reach, as far as the client knows."""
    return not consumer._coordinator.coordinator_unknown()


def request_rejoin(consumer: KafkaConsumer) -> None:
    """Makes the next poll take up a join that an earlier poll began and did not end."""
    # A rejoin because of new partitions is forgotten when the poll that began it ends before it does, and the member would
    # be neither in nor out for ever (need_rejoin in coordinator/consumer.py).
    consumer._coordinator.request_rejoin()


def committed_offsets(
    consumer: KafkaConsumer, partitions: Collection[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The group's committed offsets with their metadata, read in one request; partitions without one are missing.

    Waits for open transactions where the consumer reads only what is committed. Raises the client's errors."""
    coordinator = consumer._coordinator  # the public committed() reads one partition at a time
    # The request of a read that timed out is kept, and its answer, however old by then, would be given to this read.
    coordinator._offset_fetch_futures.clear()
    return dict(coordinator.fetch_committed_offsets(list(partitions), timeout_ms=timeout_ms))


def return_parked(consumer: KafkaConsumer) -> None:
    """Gives back, or fetches again, what the client parked of partitions that were paused. Call it after each resume.

    A parked partition is not fetched, and what was parked comes back only while the client's slot for the partition in
    turn is None. A partition that flows meanwhile leaves a used-up slot instead, and the parked one is skipped for ever
    (fetched_records in consumer/fetcher.py). Positions move only when records are handed out, so nothing can be lost here:
    one parked partition gets the slot if it is free, the others are fetched again."""
    fetcher = consumer._fetcher
    parked = fetcher._paused_partition_records
    if parked and not fetcher._next_partition_records:
        fetcher._next_partition_records = parked.popitem()[1]
    parked.clear()


# --- producer --------------------------------------------------------------------------------------------------------


def producer_identity(producer: KafkaProducer) -> tuple[int, int]:
    """Producer id and epoch: only they tell a commit from a silent abort."""
    current = producer._transaction_manager.producer_id_and_epoch
    return current.producer_id, current.epoch


def throw_away(producer: KafkaProducer) -> None:
    """Ends a producer without sending what it still holds."""
    # close() with records pending raises and leaves the sending thread alive, which would go on sending them.
    producer._sender.force_close()
    # Only its resources matter now; whatever it still says is about records we will send again.
    with suppress(Exception):
        call_with_timeout(CLOSE_SECONDS, lambda: producer.close(timeout=0))


class Resends:
    """Watches one transactional producer for requests that it may have sent twice.

    The client sends a request again by TxnRequestHandler.reenqueue (producer/transaction_manager.py), and tells nobody.
    Watched are the two requests that do harm when their first copy comes late: the transaction's end and its offsets. A
    request that waits for its coordinator to be found goes back into the queue by another way, and does not count."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._seen = False
        manager = producer._transaction_manager
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
