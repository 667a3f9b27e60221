"""Sources and deliveries that are wrong on purpose: one for each trap of a client's transactions that ours avoids.

Trap 1 happens for real. The others depend on timing inside the client, so each class here does by itself, every time,
what the client does in its trap; what comes of it happens on the real broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from worker.errors import DeliveryFailed
from worker.kafka.delivery import ExactlyOnce
from worker.kafka.driver import Consumer, KafkaFailure, Outgoing, Producer
from worker.kafka.source import KafkaSource
from worker.records import DeadLetter, Labelled, Membership, Partition, Window


class LiveMetadata(ExactlyOnce):
    """Trap 1: the membership is taken at the delivery and not at the poll. After the poll interval has passed it names
    no generation and no member, which brokers accept without fencing."""

    consumer: Consumer

    def deliver(
        self, window: Window, results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]
    ) -> Sequence[DeadLetter]:
        live = msgspec.structs.replace(window, membership=self.consumer.membership())
        return super().deliver(live, results, dead_letters)


class KeepsPositions(KafkaSource):
    """Trap 2: through a rejoin the positions stay where they were, and nothing goes back to the committed offsets."""

    _kept: Mapping[Partition, int] = {}

    def poll(self, timeout_seconds: float) -> Window | None:
        window = super().poll(timeout_seconds)
        if window is not None:
            self._kept = {**self._kept, **window.next_offsets}
        return window

    def _in_place(self, membership: Membership) -> bool:
        if not self._member.joined or membership.same(self._member):
            return super()._in_place(membership)
        if membership.joined:
            self._member, self._stale = membership, False
            # Nothing was committed where nothing was read.
            self._consumer.seek({p: self._kept.get(p, 0) for p in self._consumer.assignment()})
        return False  # this poll's records came from other positions


class KeepsOffsets(ExactlyOnce):
    """Trap 3: the offsets of a failed transaction stay pending and go out with the next one."""

    _pending: Mapping[Partition, int] = {}

    def _transaction(self, producer: Producer, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        self._pending = {**self._pending, **window.next_offsets}
        with_pending = msgspec.structs.replace(window, next_offsets=self._pending)
        done = super()._transaction(producer, with_pending, outgoing)
        self._pending = {}
        return done


class IgnoresAcknowledgements(ExactlyOnce):
    """Trap 4: a record that was given up fails nothing but its own future, which nobody looks at."""

    _given_up = False

    def _transaction(self, producer: Producer, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        if not self._given_up:
            self._given_up = True
            outgoing = outgoing[1:]
        return super()._transaction(producer, window, outgoing)


class BelievesCommit(ExactlyOnce):
    """Trap 5: the epoch is bumped during the commit; the commit "succeeds", and everything was aborted."""

    _bumped = False

    def _transaction(self, producer: Producer, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        if self._bumped:
            return super()._transaction(producer, window, outgoing)
        self._bumped = True
        producer.begin()
        producer.send(outgoing)
        producer.send_offsets(window.next_offsets, self._topic_id, window.membership)
        producer.abort()
        return []


class KeepsRecords(ExactlyOnce):
    """Trap 6: records of an aborted transaction are still in the producer and surface in its next commit."""

    _left: Sequence[Outgoing] = ()

    def _attempt(self, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        left, self._left = self._left, ()
        try:
            return super()._attempt(window, [*left, *outgoing])
        except (DeliveryFailed, KafkaFailure):
            self._left = outgoing
            raise
