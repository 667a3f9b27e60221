"""Sources and deliveries that are wrong on purpose: one for each trap of the client's transactions that ours avoids.

Trap 1 happens for real. The others depend on timing inside the client, so each class here does by itself, every time,
what the client does in its trap; what comes of it happens on the real broker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.base import MemberState

from worker.errors import DeliveryFailed
from worker.kafka.answers import Outgoing
from worker.kafka.delivery import ExactlyOnce
from worker.kafka.source import KafkaSource
from worker.records import DeadLetter, Labelled, Window


class LiveMetadata(ExactlyOnce):
    """Trap 1: the group metadata is taken at the delivery and not at the poll. After the poll interval has passed it names
    no generation and no member, which brokers accept without fencing."""

    consumer: KafkaConsumer

    def deliver(
        self, window: Window, results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]
    ) -> Sequence[DeadLetter]:
        membership = self.consumer.group_metadata()
        return super().deliver(msgspec.structs.replace(window, membership=membership), results, dead_letters)


class KeepsPositions(KafkaSource):
    """Trap 2: through a rejoin the positions stay where they were, and nothing goes back to the committed offsets."""

    _kept: dict[TopicPartition, int]

    def poll(self, timeout_seconds: float) -> Window | None:
        window = super().poll(timeout_seconds)
        if window is not None:
            self._kept = getattr(self, "_kept", {}) | {TopicPartition(*p): at for p, at in window.next_offsets.items()}
        return window

    def _in_place(self, membership: Any) -> bool:
        member = (membership.generation_id, membership.member_id)
        if self._member is None or member == self._member:
            return super()._in_place(membership)
        if membership.state is MemberState.STABLE:
            self._member, self._stale = member, False
            for partition in self._consumer.assignment():  # nothing was committed where nothing was read
                self._consumer.seek(partition, self._kept.get(partition, 0))
        return False  # this poll's records came from other positions


class KeepsOffsets(ExactlyOnce):
    """Trap 3: the offsets of a failed transaction stay pending and go out with the next one."""

    _pending: dict[TopicPartition, Any]

    def _transaction(self, producer: KafkaProducer, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        pending = {**getattr(self, "_pending", {}), **self._offsets(window)}
        self._pending = pending
        offsets, self._offsets = self._offsets, lambda _window: pending
        try:
            done = super()._transaction(producer, window, outgoing)
        finally:
            self._offsets = offsets
        self._pending = {}
        return done


class IgnoresAcknowledgements(ExactlyOnce):
    """Trap 4: a record that was given up fails nothing but its own future, which nobody looks at."""

    _given_up = False

    def _transaction(self, producer: KafkaProducer, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        if not self._given_up:
            self._given_up = True
            outgoing = outgoing[1:]
        return super()._transaction(producer, window, outgoing)


class BelievesCommit(ExactlyOnce):
    """Trap 5: the epoch is bumped during the commit; the commit "succeeds", and everything was aborted."""

    _bumped = False

    def _transaction(self, producer: KafkaProducer, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        if self._bumped:
            return super()._transaction(producer, window, outgoing)
        self._bumped = True
        producer.begin_transaction()
        for out in outgoing:
            producer.send(out.topic, out.value, key=out.key, headers=out.headers, partition=out.partition)
        producer.flush(30)
        producer.send_offsets_to_transaction(self._offsets(window), window.membership)
        producer.abort_transaction()
        return []


class KeepsRecords(ExactlyOnce):
    """Trap 6: records of an aborted transaction are still in the producer and surface in its next commit."""

    _left: Sequence[Outgoing] = ()

    def _attempt(self, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        left, self._left = self._left, ()
        try:
            return super()._attempt(window, [*left, *outgoing])
        except (DeliveryFailed, kafka_errors.KafkaError):
            self._left = outgoing
            raise
