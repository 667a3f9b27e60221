"""The Source over a Kafka consumer group.

Three rules keep it honest. The first two were learnt from duplicates that a textbook loop makes, the third from a group
that rebalanced for ever:

- the group metadata is taken right after the poll that brought the records, never later: read later it may belong to
  another generation, or to none, which brokers accept without fencing;
- when the generation or the member id has changed, what was polled is dropped and every assigned partition goes back to
  its committed offset: the client keeps its old positions through some rejoins;
- while a rebalance is under way, nothing but poll() is called: kafka-python 3.0.12 throws away a join that ends while nobody
  polls, and joins again, which makes every other member rejoin (coordinator/base.py, join_group_async).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import MemberState, OffsetAndMetadata

from worker.errors import ConfigError, DeliveryFailed, KafkaUnavailable, OffsetsLost, SourceLost
from worker.kafka.client import REFUSED, explain, is_fatal, replaced, translated
from worker.kafka.header_names import read_any_header_name
from worker.kafka.internals import (
    committed_offsets,
    coordinator_known,
    position,
    request_rejoin,
    return_parked,
    topic_id,
)
from worker.kafka.lag import KafkaLag
from worker.ports import Clock, Events
from worker.records import Partition, Record, Window
from worker.state import Component, WorkerState

JOIN_SECONDS = 5.0
"""How long a poll goes on beyond its time while a rebalance is under way."""
JOIN_POLL_SECONDS = 0.5
AWAY_SECONDS = 5.0
"""How long the group's coordinator may be out of reach before the worker says that it waits for Kafka."""
PAUSE_SECONDS = 0.2
"""Wait after a poll that failed, so that an outage costs no CPU."""


class KafkaSource:
    """Reads the one topic its consumer is subscribed to. `until`: the offset each partition ends at, if any."""

    def __init__(
        self,
        consumer: KafkaConsumer,
        topic: str,
        *,
        window_records: int,
        request_timeout_seconds: float,
        state: WorkerState,
        events: Events,
        clock: Clock,
        pause: Callable[[float], object],
        fill_seconds: float = 0.0,
        until: Mapping[int, int] | None = None,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._topic_id = topic_id(consumer, topic)
        self._window_records = window_records
        self._timeout_ms = int(request_timeout_seconds * 1000)
        self._state = state
        self._events = events
        self._clock = clock
        self._pause = pause
        self._fill_seconds = fill_seconds
        self._until = until
        self._member: tuple[int, str] | None = None
        self._stale = True
        """Whether positions must be set to the committed offsets before any record may be handed out."""
        self._placed: frozenset[TopicPartition] = frozenset()
        """The partitions that were set to their committed offsets, and have been read from there since."""
        self._paused = False
        self._lag = KafkaLag(consumer, clock)
        self._answered_at = clock.monotonic()
        """When Kafka was last known to be there."""
        self._closed = False

    def poll(self, timeout_seconds: float) -> Window | None:
        """See ports.Source."""
        if self._paused:
            self._pause_assigned()
        polled = self._polled(timeout_seconds)
        self._watch_brokers(answered=polled is not None)
        if polled is None:
            return None
        membership = self._consumer.group_metadata()
        if membership.state == MemberState.REBALANCING:
            if polled:
                self._lose("the group began to rebalance while a window was filled")
            return None
        if not self._in_place(membership):
            return None
        if self._paused and polled:
            # Only a partition assigned during this very poll can bring anything: it is read again later.
            self._lose("records came although they were paused")
        return self._window(polled, membership)

    def pause(self) -> None:
        """See ports.Source."""
        self._paused = True

    def resume(self) -> None:
        """See ports.Source."""
        self._paused = False
        # Asked of the client each time: through some rejoins it keeps a partition's pause, through others it does not.
        paused = self._consumer.paused()
        if paused:
            self._consumer.resume(*paused)
        return_parked(self._consumer)  # a partition that a rebalance has resumed has records parked as well

    def rewind(self) -> None:
        """See ports.Source. Where Kafka does not answer, the next polls try again and hand out nothing until then."""
        self._stale = True

    def lag(self) -> Mapping[Partition, int]:
        """See ports.Source."""
        return self._lag.of(self._placed, fetching=not self._paused, ask=not self._rebalancing())

    def finished(self) -> bool:
        """See ports.Source."""
        if self._until is None or self._member is None or self._stale:
            return False
        return all(position(self._consumer, tp) >= self._until.get(tp.partition, 0) for tp in self._placed)

    def close(self) -> None:
        """See ports.Source."""
        if not self._closed:
            self._closed = True
            self._consumer.close(autocommit=False, timeout_ms=min(self._timeout_ms, 5_000))

    def commit(self, window: Window) -> None:
        """Commits a window's offsets without a transaction (at-least-once). Safe from another thread: the client runs it
        on its own I/O thread. Blocks up to the request timeout.

        Raises DeliveryFailed when the group has moved on or the commit did not go through, Fenced when another process
        took our place in the group."""
        metadata = self._consumer.group_metadata()
        if (metadata.generation_id, metadata.member_id) != (
            window.membership.generation_id,
            window.membership.member_id,
        ):
            raise DeliveryFailed("the group moved on to another generation before the commit")
        try:
            self._consumer.commit(self.offsets(window), timeout_ms=self._timeout_ms)
        except kafka_errors.FencedInstanceIdError as error:
            raise replaced(window.membership.group_instance_id) from error
        except kafka_errors.KafkaError as error:
            raise DeliveryFailed(f"committing offsets: {explain(error)}") from error

    def offsets(self, window: Window) -> dict[TopicPartition, OffsetAndMetadata]:
        """A window's offsets in the client's terms, each naming the topic's id so that a recreated topic is noticed."""
        return {
            TopicPartition(*partition): OffsetAndMetadata(offset, self._topic_id, -1)
            for partition, offset in window.next_offsets.items()
        }

    # --- membership and positions --------------------------------------------------------------------------------

    def _in_place(self, membership: Any) -> bool:
        """Whether we are a member with every position where it belongs, so that what was polled counts.

        Raises SourceLost once for every generation that ends."""
        joined = membership.generation_id >= 0 and bool(membership.member_id)
        member = (membership.generation_id, membership.member_id) if joined else None
        if member != self._member:
            was, self._member, self._stale = self._member, member, True
            self._placed = frozenset()
            if was is not None:
                now = f"generation {member[0]} now" if member else "not a member at the moment"
                raise SourceLost(f"the group was rebalanced: {now}, in generation {was[0]} before")
        if member is None:
            return False
        self._check_topic()
        if self._stale:
            self._reset()
            return False
        return True

    def _lose(self, why: str) -> None:
        """Positions go back to the committed offsets, so nothing in flight may count any more. Raises SourceLost, unless
        that has been said already."""
        if not self._stale:
            self._stale = True
            raise SourceLost(why)

    def _check_topic(self) -> None:
        """Our positions mean nothing in another topic of the same name; without this they would be kept and used."""
        now = topic_id(self._consumer, self._topic)
        if self._topic_id and now and now != self._topic_id:
            raise OffsetsLost(
                f"the topic {self._topic} was deleted and recreated while it was read. To read the new topic from its "
                "start, stop all workers and start one with --from earliest"
            )

    def _reset(self) -> None:
        """Every assigned partition goes to its committed offset. If that fails, the next poll tries again."""
        try:
            positions = self._committed(self._consumer.assignment())
            for partition, offset in positions.items():
                self._consumer.seek(partition, offset)
        except (kafka_errors.KafkaError, OSError) as error:
            self._wait_out(error)
            return
        self._placed = frozenset(positions)
        self._lag.reset()
        self._stale = False

    def _committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The committed offset of each; the earliest there is for a partition that has none. At most one request to the
        group's coordinator and one to each leader, whatever the number of partitions."""
        committed = committed_offsets(self._consumer, partitions, self._timeout_ms)
        for partition, at in committed.items():
            if at.metadata and self._topic_id and at.metadata != self._topic_id:
                raise OffsetsLost(
                    f"the topic {self._topic} was deleted and recreated since offset {at.offset} of partition "
                    f"{partition.partition} was committed. To read the new topic from its start, stop all workers and "
                    "start one with --from earliest"
                )
        positions = {partition: int(at.offset) for partition, at in committed.items()}
        without = [partition for partition in partitions if partition not in positions]
        if without:
            positions |= self._consumer.beginning_offsets(without, timeout_ms=self._timeout_ms)
        return positions

    def _out_of_range(self, error: BaseException) -> str:
        return (
            f"the committed offsets are not in the topic {self._topic} any more ({explain(error)}): records were deleted "
            "before they were read, or the topic was recreated. To go on, stop all workers and start one with --from "
            "earliest, latest, a timestamp or offsets"
        )

    def _unreadable(self, error: BaseException) -> str:
        # Polling on is no way out: kafka-python 3.0.12 then spins inside poll() and never returns.
        places = ", ".join(f"{tp.partition}:{position(self._consumer, tp)}" for tp in sorted(self._placed))
        return (
            f"a record of the topic {self._topic} cannot be read ({explain(error)}); it is the next one of one of the "
            f"partitions, which stand at {places}. If a restart does not help, go on after it: stop all workers and start "
            "one with --from and the offset after it"
        )

    def _wait_out(self, error: BaseException) -> None:
        if is_fatal(error):
            raise KafkaUnavailable(f"reading from Kafka: {explain(error)}") from error
        self._events.retrying("kafka", type(error).__name__, 1, PAUSE_SECONDS, explain(error))
        self._pause(PAUSE_SECONDS)

    def _watch_brokers(self, *, answered: bool) -> None:
        """Says that the worker holds while Kafka is away. Most polls tell nothing of that: they just bring no records."""
        now = self._clock.monotonic()
        if answered and coordinator_known(self._consumer):
            self._answered_at = now
            self._state.release(Component.KAFKA)
        elif now - self._answered_at > AWAY_SECONDS:
            self._state.hold(Component.KAFKA, "Kafka does not answer.")

    # --- records -------------------------------------------------------------------------------------------------

    def _polled(self, timeout_seconds: float) -> dict[TopicPartition, list[Any]] | None:
        """What was read, or None after an error that waiting may mend. Raises the others in our terms."""
        try:
            return self._fetch(timeout_seconds)
        except kafka_errors.NoOffsetForPartitionError:
            self._lose("a partition came up that has no committed offset")
            return {}
        except (kafka_errors.OffsetOutOfRangeError, kafka_errors.LogTruncationError) as error:
            raise OffsetsLost(self._out_of_range(error)) from error
        except kafka_errors.CorruptRecordError as error:
            raise OffsetsLost(self._unreadable(error)) from error
        except kafka_errors.FencedInstanceIdError as error:
            raise replaced(self._consumer.config["group_instance_id"]) from error
        except (kafka_errors.KafkaError, OSError) as error:
            self._wait_out(error)
            return None

    def _fetch(self, timeout_seconds: float) -> dict[TopicPartition, list[Any]]:
        """One poll, or as many as a rebalance under way needs; with a fill time, further ones until the window is full or
        the time is up."""
        polled = self._poll_for(timeout_seconds, self._window_records)
        deadline = self._clock.monotonic() + JOIN_SECONDS
        while not polled and self._joining() and self._clock.monotonic() < deadline:
            polled = self._poll_for(JOIN_POLL_SECONDS, self._window_records)
        return self._fill(polled) if self._fill_seconds and polled else polled

    def _rebalancing(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.REBALANCING)

    def _joining(self) -> bool:
        if not self._rebalancing():
            return False
        request_rejoin(self._consumer)
        return True

    def _poll_for(self, seconds: float, max_records: int) -> dict[TopicPartition, list[Any]]:
        polled: dict[TopicPartition, list[Any]] = self._consumer.poll(int(seconds * 1000), max_records=max_records)
        return polled

    def _fill(self, polled: dict[TopicPartition, list[Any]]) -> dict[TopicPartition, list[Any]]:
        deadline = self._clock.monotonic() + self._fill_seconds
        while True:
            room = self._window_records - sum(map(len, polled.values()))
            left_seconds = deadline - self._clock.monotonic()
            if room <= 0 or left_seconds <= 0:
                return polled
            try:
                more = self._poll_for(left_seconds, room)
            except (kafka_errors.KafkaError, OSError):
                return polled  # the next poll meets it again; what has been read must not get lost for it
            for partition, records in more.items():
                polled.setdefault(partition, []).extend(records)

    def _window(self, polled: Mapping[TopicPartition, list[Any]], membership: Any) -> Window | None:
        records: list[Record] = []
        ends: dict[Partition, int] = {}
        for partition, found in polled.items():
            name, number = partition
            end = self._end(number)
            before = len(records)
            records += [
                Record(name, number, r.offset, r.timestamp, r.key, r.value, r.headers or ())
                for r in found
                if r.offset < end
            ]
            if len(records) > before:
                ends[Partition(name, number)] = records[-1].offset + 1
        return Window(records, ends, membership) if records else None

    def _end(self, partition: int) -> float:
        return float("inf") if self._until is None else self._until.get(partition, 0)

    def _pause_assigned(self) -> None:
        running = self._consumer.assignment() - self._consumer.paused()
        if running:
            self._consumer.pause(*running)


def open_consumer(options: Mapping[str, Any], topic: str) -> KafkaConsumer:
    """A consumer connected to the brokers and subscribed to the topic; it joins its group at the first poll.

    Raises KafkaUnavailable, and ConfigError when the brokers do not take the credentials, or the client the settings."""
    read_any_header_name()
    brokers = ",".join(options["bootstrap_servers"])
    try:
        with translated(f"connecting to Kafka at {brokers}"):
            consumer = KafkaConsumer(**options)
    except KafkaUnavailable as error:
        if isinstance(error.__cause__, REFUSED):
            raise ConfigError(
                f"Kafka at {brokers} refuses the credentials: {explain(error.__cause__)}. Check kafka-security-protocol, "
                "kafka-sasl-mechanism, kafka-sasl-username and kafka-sasl-password"
            ) from error
        if isinstance(error.__cause__, kafka_errors.KafkaConfigurationError):
            raise ConfigError(str(error)) from error
        raise
    # Before the client has any metadata: to a leader that subscribes later, the topic's partitions come as a surprise at
    # the next refresh, and the whole group rebalances (coordinator/consumer.py, _metadata_snapshot).
    consumer.subscribe([topic])
    return consumer
