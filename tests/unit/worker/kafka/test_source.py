"""The Kafka source over a scripted consumer: what no real group does on demand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata

from worker.errors import OffsetsLost, SourceLost
from worker.kafka.lag import LAG_SECONDS
from worker.kafka.source import AWAY_SECONDS, KafkaSource
from worker.records import Window
from worker.testing import ManualClock, RecordingEvents, running

P0 = TopicPartition("reviews", 0)


class ScriptedConsumer:
    """Each poll runs the next step of the script: it may change the group's state, and returns offsets or raises."""

    def __init__(self, clock: ManualClock) -> None:
        self.state, self.generation = MemberState.STABLE, 1
        self.script: list[Callable[[], list[int]]] = []
        self.polls = 0
        self.committed_reads = 0
        self.position = 0
        self._clock = clock
        self._cluster = SimpleNamespace(topic_id=lambda _topic: None)
        self.away = False
        self.asked = 0
        self._coordinator = SimpleNamespace(
            request_rejoin=lambda: None,
            coordinator_unknown=lambda: self.away,
            _offset_fetch_futures={},
            fetch_committed_offsets=self._fetch_committed_offsets,
        )

    def poll(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        self._clock.advance(timeout_ms / 1000)
        offsets = self.script.pop(0)() if self.script else []
        found = [SimpleNamespace(offset=o, timestamp=0, key=None, value=b"x", headers=()) for o in offsets]
        return {P0: found} if found else {}

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata("g", self.generation, "member", None, self.state)

    def _fetch_committed_offsets(
        self, partitions: list[TopicPartition], **_options: object
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        self.committed_reads += 1
        return dict.fromkeys(partitions, OffsetAndMetadata(0, "", -1))

    def seek(self, _partition: TopicPartition, offset: int) -> None:
        self.position = offset

    def assignment(self) -> set[TopicPartition]:
        return {P0}

    def paused(self) -> set[TopicPartition]:
        return set()

    def pause(self, *_partitions: TopicPartition) -> None: ...

    def end_offsets(self, partitions: list[TopicPartition], **_options: object) -> dict[TopicPartition, int]:
        self.asked += 1
        return dict.fromkeys(partitions, 117)

    @property
    def _subscription(self) -> Any:
        return SimpleNamespace(assignment={P0: SimpleNamespace(position=SimpleNamespace(offset=17), highwater=20)})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def consumer(clock: ManualClock) -> ScriptedConsumer:
    return ScriptedConsumer(clock)


def a_source(
    consumer: ScriptedConsumer, clock: ManualClock, *, fill_seconds: float = 0.0, events: RecordingEvents | None = None
) -> KafkaSource:
    """A source that has joined and stands at its committed offsets."""
    events = events or RecordingEvents()
    source = KafkaSource(
        consumer,
        "reviews",
        window_records=5,
        request_timeout_seconds=1,
        fill_seconds=fill_seconds,
        state=running(events),
        events=events,
        clock=clock,
        pause=clock.advance,
    )
    assert source.poll(0.5) is None
    return source


def offsets(window: Window | None) -> list[int]:
    return [record.offset for record in window.records] if window else []


def test_while_a_rebalance_is_under_way_it_polls_on_and_asks_for_nothing_else(
    consumer: ScriptedConsumer, clock: ManualClock
) -> None:
    source = a_source(consumer, clock)
    reads, polls = consumer.committed_reads, consumer.polls

    def begins() -> list[int]:
        consumer.state, consumer.generation = MemberState.REBALANCING, 2
        return []

    def ends() -> list[int]:
        consumer.state = MemberState.STABLE
        return [0]

    consumer.script = [begins, list, list, ends]
    with pytest.raises(SourceLost):
        source.poll(0.0)
    assert consumer.polls == polls + 4
    assert consumer.committed_reads == reads
    source.poll(0.5)
    assert consumer.committed_reads > reads


def test_a_rebalance_that_does_not_end_gives_the_reader_back_and_loses_nothing_by_itself(
    consumer: ScriptedConsumer, clock: ManualClock
) -> None:
    source = a_source(consumer, clock)
    consumer.state = MemberState.REBALANCING
    assert source.poll(0.0) is None
    consumer.state, consumer.script = MemberState.STABLE, [lambda: [0, 1]]
    assert offsets(source.poll(0.5)) == [0, 1]


def test_what_was_read_before_an_error_interrupted_the_filling_is_handed_out(
    consumer: ScriptedConsumer, clock: ManualClock
) -> None:
    source = a_source(consumer, clock, fill_seconds=3)

    def fails() -> list[int]:
        raise kafka_errors.NodeNotReadyError

    consumer.script = [lambda: [0, 1], fails]
    assert offsets(source.poll(0.5)) == [0, 1]


def test_a_rebalance_that_begins_while_a_window_is_filled_drops_all_that_is_in_flight(
    consumer: ScriptedConsumer, clock: ManualClock
) -> None:
    source = a_source(consumer, clock, fill_seconds=3)

    def begins() -> list[int]:
        consumer.state = MemberState.REBALANCING
        return []

    consumer.script = [lambda: [0, 1], begins]
    with pytest.raises(SourceLost):
        source.poll(0.5)


def test_records_that_come_while_held_drop_all_that_is_in_flight_since_they_are_read_again(
    consumer: ScriptedConsumer, clock: ManualClock
) -> None:
    source = a_source(consumer, clock)
    source.pause()
    consumer.script = [lambda: [0]]
    with pytest.raises(SourceLost):
        source.poll(0.0)


def test_a_record_that_cannot_be_read_ends_the_worker_with_its_place(
    consumer: ScriptedConsumer, clock: ManualClock
) -> None:
    """Another poll would spin in the client for ever."""
    source = a_source(consumer, clock)

    def fails() -> list[int]:
        raise kafka_errors.CorruptRecordError("bad checksum")

    consumer.script = [fails]
    with pytest.raises(OffsetsLost, match=r"reviews.*bad checksum.*0:17.*--from"):
        source.poll(0.5)


def test_the_lag_is_asked_for_while_nothing_is_fetched_but_not_in_a_rebalance(
    consumer: ScriptedConsumer, clock: ManualClock
) -> None:
    source = a_source(consumer, clock)
    assert list(source.lag().values()) == [20 - 17]
    assert consumer.asked == 0
    source.pause()
    clock.advance(LAG_SECONDS)
    assert list(source.lag().values()) == [117 - 17]
    consumer.state = MemberState.REBALANCING
    clock.advance(LAG_SECONDS)
    assert list(source.lag().values()) == [20 - 17]
    assert consumer.asked == 1


def test_while_kafka_is_away_the_worker_says_that_it_holds(consumer: ScriptedConsumer, clock: ManualClock) -> None:
    events = RecordingEvents()
    source = a_source(consumer, clock, events=events)
    consumer.away = True
    source.poll(AWAY_SECONDS / 2)
    assert events.named("state") == []
    source.poll(AWAY_SECONDS)
    assert events.named("state") == [("holding", "Kafka does not answer.")]
    consumer.away = False
    source.poll(0.5)
    assert events.named("state")[1:] == [("running", "")]
