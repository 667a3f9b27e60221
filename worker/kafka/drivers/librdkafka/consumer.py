"""The consumer: driver.Consumer over a confluent_kafka.Consumer.

What is assigned to the member and what the client reads are two things here. A rebalance gives the client nothing to read;
`seek` does, and always says from where. So the client never looks for a position by itself, and no record can come from one
that is not the policy's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from worker.kafka.driver import Committed, KafkaFailure, Refused, Unreachable
from worker.kafka.drivers.librdkafka.admin import Admin, TopicWatch, named
from worker.kafka.drivers.librdkafka.errors import Heard, ours, translated
from worker.kafka.drivers.timeouts import call_with_timeout
from worker.ports import Clock
from worker.records import UNREADABLE_HEADERS, Headers, Membership, Partition, Record

SLICE_SECONDS = 0.05
"""How long the client is polled in one go: a commit from another thread waits for it."""
CLOSE_SECONDS = 5.0
PASSING = (Unreachable, KafkaFailure)
"""The failures, by their very types, that the client gets over by itself: no record is missing for them."""
NO_OFFSET = -1001
METADATA_PREFIX = b"CGMDv2:"
TOPIC_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
        instance_id: str,
        request_timeout_seconds: float,
    ) -> None:
        self._client = client
        self._topic = topic
        self._admin = admin
        self._watch = watch
        self._heard = heard
        self._clock = clock
        self._instance_id = instance_id
        self._seconds = request_timeout_seconds
        self._turn, self._in_use = Lock(), Lock()
        self._membership = Membership()
        self._assigned: frozenset[Partition] = frozenset()
        self._assigned_as: tuple[int, str] | None = None
        """Generation and member of the assignment; None from the moment it is taken back."""
        self._positions: dict[Partition, int] = {}
        self._read: frozenset[Partition] = frozenset()
        """What the client reads, or would if it were not paused."""
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
        with self._client_free(), translated():
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
                found[message.partition()].append(self._record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[Partition(self._topic, message.partition())] = message.offset()
            else:
                self._held = self._failure(error)
                if type(self._held) not in PASSING:
                    break  # what follows may be anything, and is read again by whoever comes next
        polled = {Partition(self._topic, number): records for number, records in found.items()}
        for partition, records in polled.items():
            self._positions[partition] = records[-1].offset + 1
        for partition, end in ends.items():
            self._positions[partition] = max(end, self._positions.get(partition, end))
        return polled

    def _record(self, message: Message) -> Record:
        return Record(
            self._topic,
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            _headers(message),
        )

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

    @contextmanager
    def _client_free(self) -> Iterator[None]:
        """One call of the client at a time, in the order in which they come: a commit made during one would wait for as long
        as others follow that one (confluent-kafka-python issue 2322)."""
        with self._turn:
            self._in_use.acquire()
        try:
            yield
        finally:
            self._in_use.release()

    # --- group -------------------------------------------------------------------------------------------------------

    # The client calls these two within `consume`. They never raise: it would lose what it is about to hand out.

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._read_nothing(lambda: client.assign([]))
        self._assigned = frozenset(Partition(tp.topic, tp.partition) for tp in partitions)
        generation, member = _place(client.consumer_group_metadata())
        self._assigned_as = generation, member

    def _on_revoke(self, client: Consumer, _partitions: list[TopicPartition]) -> None:
        self._read_nothing(client.unassign)
        self._assigned, self._assigned_as = frozenset(), None

    def _read_nothing(self, answer: Callable[[], None]) -> None:
        """`answer` is the call that the client waits for in either case; without one it assigns what it was given."""
        self._read = frozenset()
        self._positions.clear()
        try:
            answer()
        except KafkaException as error:
            self._held = ours(error)

    def membership(self) -> Membership:
        """See driver.Consumer. While another thread polls, as it was before that poll."""
        if not self._closed and self._in_use.acquire(blocking=False):
            try:
                self._look_around()
            finally:
                self._in_use.release()
        return self._membership

    def _look_around(self) -> None:
        token = self._client.consumer_group_metadata()
        generation, member = place = _place(token)
        joined = generation >= 0 and bool(member)
        # The generation is a new one from the answer to the join on, and the assignment comes later.
        rebalancing = joined and place != self._assigned_as
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
        with self._client_free(), translated():
            found = self._client.committed([TopicPartition(*p) for p in partitions], timeout=self._seconds)
        _check(found)
        return {Partition(tp.topic, tp.partition): Committed(tp.offset, _text(tp)) for tp in found if tp.offset >= 0}

    def commit(self, offsets: Mapping[Partition, int], metadata: str) -> None:
        """See driver.Consumer. While the coordinator is away the client waits for it, up to the session timeout."""
        with self._client_free(), translated():
            done = self._client.commit(offsets=named(offsets, metadata), asynchronous=False)
        _check(done)

    def close(self) -> None:
        """See driver.Consumer."""
        if not self._closed:
            self._closed = True
            with suppress(KafkaFailure, KafkaException, RuntimeError):
                call_with_timeout(CLOSE_SECONDS, self._client.close)

    # --- positions ---------------------------------------------------------------------------------------------------

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """See driver.Consumer. The client's own seek fails where it has no position yet: everything is assigned anew."""
        self._positions |= offsets
        self._read = frozenset(partition for partition in self._assigned if partition in self._positions)
        with self._client_free(), translated():
            self._client.assign([TopicPartition(*p, self._positions[p]) for p in sorted(self._read)])
            # A partition that was paused once is still: that outlasts assignments.
            (self._client.pause if self._paused else self._client.resume)(self._theirs())

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
                self._client.pause(self._theirs())

    def resume(self) -> None:
        """See driver.Consumer."""
        if self._paused:
            self._paused = False
            with translated():
                self._client.resume(self._theirs())

    def _theirs(self) -> list[TopicPartition]:
        return [TopicPartition(*partition) for partition in self._read]

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


def _place(token: bytes) -> tuple[int, str]:
    """Generation and member id in the client's group metadata: prefix, generation (int32, little-endian), group, NUL,
    member id, NUL, and the rest."""
    if not token.startswith(METADATA_PREFIX):
        raise RuntimeError(f"group metadata in an unknown form: {token[:16]!r}")
    start = len(METADATA_PREFIX) + 4
    _group, member, _rest = token[start:].split(b"\0", 2)
    return int.from_bytes(token[start - 4 : start], "little", signed=True), member.decode()


def _headers(message: Message) -> Headers:
    """The record's headers. Where one of their names is not UTF-8 the client gives out none of them, and must not be asked
    again: the list it has then made holds no objects but NULL."""
    try:
        return message.headers() or ()
    except (UnicodeDecodeError, SystemError):
        return UNREADABLE_HEADERS


def _text(committed: TopicPartition) -> str:
    """What was committed with an offset. The client loses the NUL that ends the text (librdkafka 2.16,
    rd_kafka_topic_partition_list_update), so its Python binding reads on to the next one in memory. Both drivers therefore
    commit a NUL with the text. Where another program has not, a topic's id is cut out; text that is not UTF-8 counts
    as none."""
    try:
        text = str(committed.metadata or "")
    except UnicodeDecodeError:
        return ""
    topic_id = TOPIC_ID.match(text)
    return topic_id[0] if topic_id else text


def _check(partitions: Sequence[Any]) -> None:
    """Raises what went wrong with any of them."""
    for partition in partitions:
        if partition.error is not None:
            raise ours(partition.error)
