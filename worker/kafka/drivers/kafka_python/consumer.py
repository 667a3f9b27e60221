"""The consumer: driver.Consumer over a KafkaConsumer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import MemberState, OffsetAndMetadata

from worker.kafka.driver import Committed
from worker.kafka.drivers.kafka_python.errors import translated
from worker.ports import Clock
from worker.records import Membership, Partition, Record

JOIN_SECONDS = 5.0
"""How long a poll goes on beyond its time while a rebalance is under way."""
JOIN_POLL_SECONDS = 0.5
CLOSE_SECONDS = 5.0
METADATA_END = "\0"
"""Ends what is committed with an offset. librdkafka's Python binding writes it too, and can only read what has it."""


class KafkaPythonConsumer:
    """See driver.Consumer. The client has subscribed to one topic."""

    def __init__(self, client: KafkaConsumer, clock: Clock, *, request_timeout_seconds: float) -> None:
        self._client = client
        self._clock = clock
        self._timeout_ms = int(request_timeout_seconds * 1000)
        self._closed = False

    def poll(self, timeout_seconds: float, max_records: int) -> Mapping[Partition, list[Record]]:
        """See driver.Consumer. While a rebalance is under way it polls on: the client throws away a join that ends while
        nobody polls, and joins again, which makes every other member rejoin (coordinator/base.py, join_group_async)."""
        with translated():
            polled = self._poll(timeout_seconds, max_records)
            deadline = self._clock.monotonic() + JOIN_SECONDS
            while not polled and self._joining() and self._clock.monotonic() < deadline:
                polled = self._poll(JOIN_POLL_SECONDS, max_records)
        return {
            Partition(topic, number): [
                Record(topic, number, r.offset, r.timestamp, r.key, r.value, r.headers or ()) for r in found
            ]
            for (topic, number), found in polled.items()
        }

    def _poll(self, seconds: float, max_records: int) -> dict[TopicPartition, list[Any]]:
        polled: dict[TopicPartition, list[Any]] = self._client.poll(int(seconds * 1000), max_records=max_records)
        return polled

    def _joining(self) -> bool:
        if self._client.group_metadata().state != MemberState.REBALANCING:
            return False
        # A rejoin because of new partitions is forgotten when the poll that began it ends before it does, and the member
        # would be neither in nor out for ever (need_rejoin in coordinator/consumer.py).
        self._client._coordinator.request_rejoin()
        return True

    # --- group -------------------------------------------------------------------------------------------------------

    def membership(self) -> Membership:
        """See driver.Consumer."""
        found = self._client.group_metadata()
        return Membership(
            found.generation_id,
            found.member_id,
            found.group_instance_id or "",
            found.state == MemberState.REBALANCING,
            found,
        )

    def assignment(self) -> frozenset[Partition]:
        """See driver.Consumer."""
        return frozenset(Partition(*tp) for tp in self._client.assignment())

    def reachable(self) -> bool:
        """See driver.Consumer."""
        return not self._client._coordinator.coordinator_unknown()

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        """See driver.Consumer."""
        coordinator = self._client._coordinator  # the public committed() reads one partition at a time
        # The request of a read that timed out is kept, and its answer, however old by then, would be given to this read.
        coordinator._offset_fetch_futures.clear()
        with translated():
            found = coordinator.fetch_committed_offsets(_theirs(partitions), timeout_ms=self._timeout_ms)
        return {
            Partition(*tp): Committed(int(at.offset), (at.metadata or "").removesuffix(METADATA_END))
            for tp, at in found.items()
        }

    def commit(self, offsets: Mapping[Partition, int], metadata: str) -> None:
        """See driver.Consumer. The client runs it on its own I/O thread."""
        with translated():
            self._client.commit(named(offsets, metadata), timeout_ms=self._timeout_ms)

    def close(self) -> None:
        """See driver.Consumer."""
        if not self._closed:
            self._closed = True
            with suppress(kafka_errors.KafkaError, OSError):
                self._client.close(autocommit=False, timeout_ms=min(self._timeout_ms, int(CLOSE_SECONDS * 1000)))

    # --- positions ---------------------------------------------------------------------------------------------------

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """See driver.Consumer."""
        with translated():
            for partition, offset in offsets.items():
                self._client.seek(TopicPartition(*partition), offset)

    def position(self, partition: Partition) -> int:
        """See driver.Consumer."""
        # The public position() also asks the brokers for what is missing, which blocks and raises.
        state = self._client._subscription.assignment.get(TopicPartition(*partition))
        return state.position.offset if state is not None and state.position is not None else -1

    def known_ends(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        states = self._client._subscription.assignment
        ends = {
            partition: states[tp].highwater for partition in partitions if (tp := TopicPartition(*partition)) in states
        }
        return {partition: end for partition, end in ends.items() if end is not None}

    def pause(self) -> None:
        """See driver.Consumer."""
        running = self._client.assignment() - self._client.paused()
        if running:
            self._client.pause(*running)

    def resume(self) -> None:
        """See driver.Consumer."""
        # Asked of the client each time: through some rejoins it keeps a partition's pause, through others it does not.
        paused = self._client.paused()
        if paused:
            self._client.resume(*paused)
        self._return_parked()  # a partition that a rebalance has resumed has records parked as well

    def _return_parked(self) -> None:
        """Gives back, or fetches again, what the client parked of partitions that were paused.

        A parked partition is not fetched, and what was parked comes back only while the client's slot for the partition in
        turn is None. A partition that flows meanwhile leaves a used-up slot instead, and the parked one is skipped for ever
        (fetched_records in consumer/fetcher.py). Positions move only when records are handed out, so nothing can be lost
        here: one parked partition gets the slot if it is free, the others are fetched again."""
        fetcher = self._client._fetcher
        parked = fetcher._paused_partition_records
        if parked and not fetcher._next_partition_records:
            fetcher._next_partition_records = parked.popitem()[1]
        parked.clear()

    # --- topics ------------------------------------------------------------------------------------------------------

    def beginning_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        with translated():
            return _ours(self._client.beginning_offsets(_theirs(partitions), timeout_ms=self._timeout_ms))

    def end_offsets(
        self, partitions: Collection[Partition], timeout_seconds: float | None = None
    ) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        timeout_ms = self._timeout_ms if timeout_seconds is None else int(timeout_seconds * 1000)
        with translated():
            return _ours(self._client.end_offsets(_theirs(partitions), timeout_ms=timeout_ms))

    def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        with translated():
            found = self._client.offsets_for_times(
                dict.fromkeys(_theirs(partitions), timestamp_ms), timeout_ms=self._timeout_ms
            )
        return _ours({tp: at.offset for tp, at in found.items() if at is not None})

    def topic_id(self, topic: str) -> str:
        """See driver.Consumer."""
        # The consumer has no public call for it, and the admin client would cost every start a second connection.
        found = self._client._cluster.topic_id(topic)
        return str(found) if found and found.int else ""

    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """See driver.Consumer."""
        with translated():
            found = {topic: self._client.partitions_for_topic(topic) for topic in topics}
        return {topic: len(partitions) for topic, partitions in found.items() if partitions}


def named(offsets: Mapping[Partition, int], metadata: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """Offsets to commit, as the client wants them."""
    ended = metadata + METADATA_END
    return {TopicPartition(*partition): OffsetAndMetadata(offset, ended, -1) for partition, offset in offsets.items()}


def _theirs(partitions: Collection[Partition]) -> list[TopicPartition]:
    return [TopicPartition(*partition) for partition in partitions]


def _ours(offsets: Mapping[TopicPartition, int]) -> dict[Partition, int]:
    return {Partition(*tp): int(offset) for tp, offset in offsets.items()}
