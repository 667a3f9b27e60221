"""The consumer: driver.Consumer over a confluent_kafka.Consumer.

A rebalance gives the client nothing to read; `seek` does, and always says from where (see `assigning`). So no record comes
from a position that is not the policy's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from worker.kafka.driver import Committed, KafkaFailure, NoCommittedOffset, Refused, Unreachable
from worker.kafka.drivers.librdkafka.admin import Admin, TopicWatch, named
from worker.kafka.drivers.librdkafka.assigning import ASSIGNING, theirs
from worker.kafka.drivers.librdkafka.errors import Heard, ours, translated
from worker.kafka.drivers.librdkafka.reading import check, place, record, text
from worker.kafka.drivers.librdkafka.turns import Turns
from worker.kafka.drivers.timeouts import call_with_timeout
from worker.ports import Clock
from worker.records import Membership, Partition, Record

SLICE_SECONDS = 0.05
"""How long the client is polled in one go: a commit from another thread waits for it."""
CLOSE_SECONDS = 5.0
PASSING = (Unreachable, KafkaFailure)
"""The failures, by their very types, that the client gets over by itself: no record is missing for them."""


class LibrdkafkaConsumer:
    """See driver.Consumer."""

    def __init__(
        self,
        client: Consumer,
        topic: str,
        *,
        admin: Admin,
        watch: TopicWatch,
        heard: Heard,
        clock: Clock,
        group_protocol: str,
        instance_id: str,
        request_timeout_seconds: float,
    ) -> None:
        self._client = client
        self._topic = topic
        self._admin = admin
        self._watch = watch
        self._heard = heard
        self._clock = clock
        self._assigning = ASSIGNING[group_protocol]()
        self._in_rounds = group_protocol != "consumer"
        """Whether each generation ends with an assignment, as in every protocol but KIP-848's: there a member's epoch rises
        with or without one, and partitions may come long after it."""
        self._instance_id = instance_id
        self._seconds = request_timeout_seconds
        self._turns = Turns()
        self._membership = Membership()
        self._assigned: frozenset[Partition] = frozenset()
        self._assigned_as: tuple[int, str] | None = None
        """Generation and member of the assignment; None from the moment it is taken back."""
        self._positions: dict[Partition, int] = {}
        self._read: frozenset[Partition] = frozenset()
        """What the client reads, or would if it were not paused."""
        self._unplaced = False
        """Whether partitions came that have no position; tells the policy where a new generation does not."""
        self._paused = False
        self._held: KafkaFailure | None = None
        """To be raised by the next poll: records that came before it were handed out first."""
        self._subscribed = False
        self._closed = False

    # --- polling -----------------------------------------------------------------------------------------------------

    def poll(self, timeout_seconds: float, max_records: int) -> Mapping[Partition, list[Record]]:
        """See driver.Consumer. The client rebalances on threads of its own."""
        self._subscribe()
        deadline = self._clock.monotonic() + timeout_seconds
        while True:
            self._watch.look()
            self._raise_held()
            self._raise_unplaced()
            left_seconds = deadline - self._clock.monotonic()
            found = self._sorted(self._messages(max(0.0, min(left_seconds, SLICE_SECONDS)), max_records))
            if found or left_seconds <= SLICE_SECONDS:
                if not found:
                    self._raise_held()
                return found

    def _subscribe(self) -> None:
        """Not before the first poll: the client joins the group at once, polled or not."""
        if not self._subscribed:
            with translated():
                self._client.subscribe(
                    [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
                )
            self._subscribed = True

    def _messages(self, seconds: float, count: int) -> list[Message]:
        """The first one, waited for, and all that the client has beside it: asked for many, it waits for all of them."""
        with self._turns.taken(), translated():
            messages: list[Message] = self._client.consume(1, seconds)
            if messages and count > 1:
                messages += self._client.consume(count - 1, 0)
        return messages

    def _sorted(self, messages: Sequence[Message]) -> dict[Partition, list[Record]]:
        found: defaultdict[int, list[Record]] = defaultdict(list)
        ends: dict[Partition, int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                found[message.partition()].append(record(self._topic, message))
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[Partition(self._topic, message.partition())] = message.offset()
            else:
                self._held = self._failure(error)
                if type(self._held) not in PASSING:
                    break  # what follows may be anything, and is read again by whoever comes next
        given = ((Partition(self._topic, number), records) for number, records in found.items())
        # A rebalance may have taken one away since.
        polled = {partition: records for partition, records in given if partition in self._read}
        for partition, records in polled.items():
            self._positions[partition] = records[-1].offset + 1
        for partition, end in ends.items():
            if partition in self._read:
                self._positions[partition] = max(end, self._positions.get(partition, end))
        return polled

    def _failure(self, error: KafkaError) -> KafkaFailure:
        if error.code() == KafkaError._FATAL and self._heard.fatal is not None:
            return self._heard.fatal
        return ours(error)

    def _raise_held(self) -> None:
        held, self._held = self._held, None
        fatal = self._heard.fatal
        if fatal is not None:
            # A producer that is dead is replaced; a consumer lives as long as the worker.
            raise fatal if type(fatal) not in PASSING else Refused(str(fatal), fatal.status)
        if held is not None:
            raise held

    def _raise_unplaced(self) -> None:
        """Once: the policy reads on until it has placed them."""
        unplaced, self._unplaced = self._unplaced, False
        if unplaced and not self._in_rounds:
            raise NoCommittedOffset("partitions were assigned that have no position yet")

    # --- group -------------------------------------------------------------------------------------------------------

    # The client calls these two within `consume`. They never raise: it would lose what it is about to hand out.

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        added = frozenset(Partition(tp.topic, tp.partition) for tp in partitions)
        self._forget(added)
        self._assigned |= added
        self._unplaced = self._unplaced or bool(added)
        self._answer(lambda: self._assigning.take_none(client))
        self._assigned_as = place(client.consumer_group_metadata())

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        lost = frozenset(Partition(tp.topic, tp.partition) for tp in partitions)
        read = lost & self._read
        self._forget(lost)
        self._assigned -= lost
        self._assigned_as = None
        self._answer(lambda: self._assigning.give_back(client, read))

    def _forget(self, partitions: frozenset[Partition]) -> None:
        self._read -= partitions
        for partition in partitions:
            self._positions.pop(partition, None)

    def _answer(self, call: Callable[[], None]) -> None:
        try:
            call()
        except KafkaException as error:
            self._held = ours(error)

    def membership(self) -> Membership:
        """See driver.Consumer. While another thread polls, as it was before that poll."""
        if not self._closed:
            with self._turns.taken_if_free() as free:
                if free:
                    self._look_around()
        return self._membership

    def _look_around(self) -> None:
        token = self._client.consumer_group_metadata()
        generation, member = now_at = place(token)
        joined = generation >= 0 and bool(member)
        # The generation is a new one from the answer to the join on, and the assignment comes later.
        rebalancing = joined and (now_at != self._assigned_as if self._in_rounds else generation == 0)
        now = self._membership
        if (token, rebalancing) != (now.token, now.rebalancing):
            self._membership = Membership(generation, member, self._instance_id, rebalancing, token)

    def assignment(self) -> frozenset[Partition]:
        """See driver.Consumer."""
        return self._assigned

    def reachable(self) -> bool:
        """See driver.Consumer. Of a broker, at least: the client does not say whether it has its coordinator."""
        return self._watch.reachable

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        """See driver.Consumer."""
        if not partitions:
            return {}
        with self._turns.taken(), translated():
            found = self._client.committed(theirs(partitions), timeout=self._seconds)
        check(found)
        return {Partition(tp.topic, tp.partition): Committed(tp.offset, text(tp)) for tp in found if tp.offset >= 0}

    def commit(self, offsets: Mapping[Partition, int], metadata: str) -> None:
        """See driver.Consumer. While the coordinator is away the client waits for it, up to the session timeout."""
        with self._turns.taken(), translated():
            done = self._client.commit(offsets=named(offsets, metadata), asynchronous=False)
        check(done)

    def close(self) -> None:
        """See driver.Consumer."""
        if not self._closed:
            self._closed = True
            with suppress(KafkaFailure, KafkaException, RuntimeError):
                call_with_timeout(CLOSE_SECONDS, self._client.close)

    # --- positions ---------------------------------------------------------------------------------------------------

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """See driver.Consumer."""
        self._positions |= offsets
        was, self._read = self._read, frozenset(p for p in self._assigned if p in self._positions)
        self._unplaced = self._read != self._assigned
        with self._turns.taken(), translated():
            self._assigning.read(self._client, was, {partition: self._positions[partition] for partition in self._read})
            # A partition that was paused once is still: that outlasts assignments.
            (self._client.pause if self._paused else self._client.resume)(theirs(self._read))

    def position(self, partition: Partition) -> int:
        """See driver.Consumer."""
        return self._positions.get(partition, -1)

    def known_ends(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        ends: dict[Partition, int] = {}
        for partition in partitions:
            with suppress(KafkaException):  # it knows nothing of it
                _, end = self._client.get_watermark_offsets(TopicPartition(*partition), cached=True)
                if end >= 0:
                    ends[partition] = end
        return ends

    def pause(self) -> None:
        """See driver.Consumer. What a rebalance brings is paused by `seek`."""
        if not self._paused:
            self._paused = True
            with translated():
                self._client.pause(theirs(self._read))

    def resume(self) -> None:
        """See driver.Consumer."""
        if self._paused:
            self._paused = False
            with translated():
                self._client.resume(theirs(self._read))

    # --- topics ------------------------------------------------------------------------------------------------------

    def beginning_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        return self._admin.offsets(partitions, OffsetSpec.earliest())

    def end_offsets(
        self, partitions: Collection[Partition], timeout_seconds: float | None = None
    ) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        return self._admin.offsets(partitions, OffsetSpec.latest(), timeout_seconds)

    def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> Mapping[Partition, int]:
        """See driver.Consumer."""
        return self._admin.offsets(partitions, OffsetSpec.for_timestamp(timestamp_ms))

    def topic_id(self, topic: str) -> str:
        """See driver.Consumer. Known once the topic's partitions were counted."""
        return self._watch.ids.get(topic, "")

    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """See driver.Consumer."""
        found = self._admin.topics(topics)
        self._watch.ids |= {name: topic.id for name, topic in found.items()}
        return {name: topic.partitions for name, topic in found.items()}
