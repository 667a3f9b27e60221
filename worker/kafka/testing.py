"""Brokers in memory, and a driver for them: the policy is tested over it, with whatever no real broker does on demand.

It keeps the promises of `driver` so far that the contract suite of Source and Delivery passes over it."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from worker.kafka.driver import (
    Commit,
    Committed,
    FencedProducer,
    GroupHasMembers,
    KafkaFailure,
    NewTopic,
    NoCommittedOffset,
    NotSent,
    OffsetOutOfRange,
    Outgoing,
    TooLarge,
    Unreachable,
)
from worker.records import Membership, Partition, Record
from worker.testing import ManualClock

INPUT = "reviews"


class FakeKafka:
    """See driver.Driver. One cluster and one group, whose one consumer gets every partition of the topic `reviews`."""

    def __init__(self, clock: ManualClock | None = None, **partitions: int) -> None:
        """`partitions` by topic. A poll that brings nothing moves the clock by its time."""
        self.clock = clock or ManualClock()
        self.log: dict[Partition, list[Record]] = {}
        """What a read_committed consumer sees; a record's offset is its index."""
        self.topic_ids: dict[str, str] = {}
        self.committed: dict[Partition, Committed] = {}
        self.generation = 1
        self.rebalancing = False
        self.away = False
        """Whether the brokers are out of reach."""
        self.in_doubt = False
        """Whether commits are DOUBTFUL."""
        self.max_bytes: dict[str, int] = {}
        """The largest value that a topic takes."""
        self.script: list[Callable[[], object]] = []
        """Each poll calls the next one first: it may change all of this, or raise."""
        self.failures: defaultdict[str, list[KafkaFailure]] = defaultdict(list)
        """By the name of a producer's or the driver's method: raised one by one, instead of doing what it does."""
        self.calls: list[str] = []
        """The calls that reach a broker, but for polls."""
        self.polls = 0
        self.epochs: defaultdict[str, int] = defaultdict(int)
        self.members = 0
        self.create_topics([NewTopic(topic, count, 1) for topic, count in partitions.items()])

    # --- what lies around --------------------------------------------------------------------------------------------

    def add(self, value: bytes, partition: int = 0, key: bytes | None = None) -> None:
        """A record for the input topic."""
        self.append(Outgoing(INPUT, partition, key, value, []))

    def append(self, out: Outgoing) -> None:
        """A record becomes visible."""
        number = out.partition
        if number is None:
            number = zlib.crc32(out.key or b"") % len(self.partitions(out.topic))
        log = self.log[Partition(out.topic, number)]
        timestamp_ms = int(self.clock.time() * 1000) if out.timestamp_ms is None else out.timestamp_ms
        log.append(Record(out.topic, number, len(log), timestamp_ms, out.key, out.value, out.headers))

    def partitions(self, topic: str) -> list[Partition]:
        """All of a topic."""
        return [partition for partition in self.log if partition.topic == topic]

    def recreate(self, topic: str) -> None:
        """The topic is deleted, and made again with its name."""
        self.topic_ids[topic] += "'"
        for partition in self.partitions(topic):
            self.log[partition] = []

    def reached(self, call: str) -> None:
        """A call reaches a broker, or fails."""
        if self.failures[call]:
            raise self.failures[call].pop(0)
        if self.away:
            raise Unreachable("no broker answers")
        self.calls.append(call)

    # --- driver.Driver -----------------------------------------------------------------------------------------------

    def open_consumer(self) -> FakeConsumer:
        """See driver.Driver."""
        self.reached("open_consumer")
        self.members += 1
        return FakeConsumer(self)

    def open_producer(self, transactional_id: str = "") -> FakeProducer:
        """See driver.Driver."""
        self.reached("open_producer")
        self.epochs[transactional_id] += 1
        return FakeProducer(self, transactional_id)

    def create_topics(self, topics: Sequence[NewTopic]) -> None:
        """See driver.Driver."""
        self.reached("create_topics")
        for topic in topics:
            self.topic_ids.setdefault(topic.name, f"id-of-{topic.name}")
            for number in range(topic.partitions):
                self.log.setdefault(Partition(topic.name, number), [])

    def set_group_offsets(self, offsets: Mapping[Partition, int], metadata: str) -> None:
        """See driver.Driver."""
        self.reached("set_group_offsets")
        if self.members > 1:
            raise GroupHasMembers("another consumer is in the group")
        self.committed |= {partition: Committed(offset, metadata) for partition, offset in offsets.items()}


class FakeConsumer:
    """See driver.Consumer."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._generation = 0
        self.closed = 0

    def poll(self, timeout_seconds: float, max_records: int) -> Mapping[Partition, list[Record]]:
        """See driver.Consumer."""
        kafka = self._kafka
        kafka.polls += 1
        if kafka.script:
            kafka.script.pop(0)()
        found = {} if kafka.away or kafka.rebalancing else self._fetched(max_records)
        if not found:
            kafka.clock.advance(timeout_seconds)
        return found

    def _fetched(self, max_records: int) -> dict[Partition, list[Record]]:
        self._join()
        found: dict[Partition, list[Record]] = {}
        for partition in self.assignment() - self._paused:
            if partition not in self._positions:
                raise NoCommittedOffset(f"partition {partition.partition}")
            log, start = self._kafka.log[partition], self._positions[partition]
            if start > len(log):
                raise OffsetOutOfRange(f"offset {start}")
            records = log[start : start + max_records]
            if records:
                found[partition] = records
                self._positions[partition] += len(records)
                max_records -= len(records)
        return found

    def _join(self) -> None:
        """After a rebalance a client stands at the committed offsets, and nothing is paused."""
        if self._generation != self._kafka.generation:
            self._generation = self._kafka.generation
            self._paused.clear()
            self._positions = {partition: at.offset for partition, at in self._kafka.committed.items()}

    def membership(self) -> Membership:
        """See driver.Consumer."""
        return Membership(self._kafka.generation, "member", "", self._kafka.rebalancing, self._kafka.generation)

    def assignment(self) -> frozenset[Partition]:
        """See driver.Consumer."""
        return frozenset(self._kafka.partitions(INPUT))

    def reachable(self) -> bool:
        """See driver.Consumer."""
        return not self._kafka.away

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """See driver.Consumer."""
        self._positions |= offsets

    def position(self, partition: Partition) -> int:
        """See driver.Consumer."""
        return self._positions.get(partition, -1)

    def known_ends(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        return {p: len(self._kafka.log[p]) for p in partitions if p not in self._paused}

    def pause(self) -> None:
        """See driver.Consumer."""
        self._paused |= self.assignment()

    def resume(self) -> None:
        """See driver.Consumer."""
        self._paused.clear()

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        """See driver.Consumer."""
        self._kafka.reached("committed")
        return {p: self._kafka.committed[p] for p in partitions if p in self._kafka.committed}

    def commit(self, offsets: Mapping[Partition, int], metadata: str) -> None:
        """See driver.Consumer."""
        self._kafka.reached("commit_offsets")
        self._kafka.committed |= {partition: Committed(offset, metadata) for partition, offset in offsets.items()}

    def beginning_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        self._kafka.reached("beginning_offsets")
        return dict.fromkeys(partitions, 0)

    def end_offsets(
        self,
        partitions: Collection[Partition],
        timeout_seconds: float | None = None,  # noqa: ARG002  answers at once
    ) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        self._kafka.reached("end_offsets")
        return {partition: len(self._kafka.log[partition]) for partition in partitions}

    def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        self._kafka.reached("offsets_at")
        found = {p: [r.offset for r in self._kafka.log[p] if r.timestamp_ms >= timestamp_ms] for p in partitions}
        return {partition: offsets[0] for partition, offsets in found.items() if offsets}

    def topic_id(self, topic: str) -> str:
        """See driver.Consumer."""
        return self._kafka.topic_ids.get(topic, "")

    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """See driver.Consumer."""
        self._kafka.reached("partition_counts")
        counts = {topic: len(self._kafka.partitions(topic)) for topic in topics}
        return {topic: count for topic, count in counts.items() if count}

    def close(self) -> None:
        """See driver.Consumer."""
        self.closed += 1
        if self.closed == 1:
            self._kafka.members -= 1


class _Offsets(NamedTuple):
    by_partition: Mapping[Partition, int]
    metadata: str


class FakeProducer:
    """See driver.Producer. Without a transaction what it sends is visible at once."""

    def __init__(self, kafka: FakeKafka, transactional_id: str) -> None:
        self._kafka = kafka
        self._id = transactional_id
        self._epoch = kafka.epochs[transactional_id]
        self._begun = False
        self._pending: list[Outgoing] = []
        self._offsets: list[_Offsets] = []
        self._failed = False

    def begin(self) -> None:
        """See driver.Producer."""
        self._call("begin")
        self._begun = True

    def send(self, outgoing: Sequence[Outgoing]) -> Sequence[NotSent]:
        """See driver.Producer. As clients do, it blames every record for one that is too large."""
        self._call("send")
        if any(len(out.value or b"") > self._kafka.max_bytes.get(out.topic, 1_000_000) for out in outgoing):
            self._failed = True
            return [NotSent(place, TooLarge("a record is too large")) for place in range(len(outgoing))]
        self._pending += outgoing
        if not self._begun:
            self._publish()
        return []

    def send_offsets(self, offsets: Mapping[Partition, int], metadata: str, membership: Membership) -> None:
        """See driver.Producer. As brokers do, it takes those of one that is no member, unfenced."""
        self._call("send_offsets")
        if membership.joined and membership.generation != self._kafka.generation:
            self._failed = True
            raise KafkaFailure(f"generation {membership.generation} is over")
        self._offsets.append(_Offsets(offsets, metadata))

    def commit(self) -> Commit:
        """See driver.Producer."""
        self._call("commit")
        self._publish()
        for offsets, metadata in self._offsets:
            self._kafka.committed |= {partition: Committed(offset, metadata) for partition, offset in offsets.items()}
        self._begun, self._offsets = False, []
        return Commit.DOUBTFUL if self._kafka.in_doubt else Commit.CERTAIN

    def abort(self) -> None:
        """See driver.Producer."""
        self._kafka.reached("abort")
        self.discard()

    def discard(self) -> None:
        """See driver.Producer."""
        self._failed = True

    def _publish(self) -> None:
        for out in self._pending:
            self._kafka.append(out)
        self._pending = []

    def _call(self, name: str) -> None:
        if self._failed:
            raise KafkaFailure("this producer has failed before")
        if self._epoch != self._kafka.epochs[self._id] and self._id:
            raise FencedProducer(f"epoch {self._epoch} is over")
        try:
            self._kafka.reached(name)
        except KafkaFailure:
            self._failed = True
            raise
