"""The Kafka source over brokers in memory: what no real group does on demand."""

from __future__ import annotations

import pytest

from worker.errors import DeliveryFailed, Fenced, KafkaUnavailable, OffsetsLost, SourceLost
from worker.kafka.driver import (
    FencedInstance,
    OffsetOutOfRange,
    Refused,
    Unreachable,
    UnreadableRecord,
)
from worker.kafka.lag import LAG_SECONDS
from worker.kafka.source import AWAY_SECONDS, KafkaSource, SourceOptions
from worker.kafka.testing import FakeKafka
from worker.records import Partition, Window
from worker.testing import RecordingEvents, running

P0 = Partition("reviews", 0)
RECORDS = 20


@pytest.fixture
def kafka() -> FakeKafka:
    made = FakeKafka(reviews=1)
    for n in range(RECORDS):
        made.add(b"%d" % n)
    return made


def a_source(
    kafka: FakeKafka,
    *,
    fill_seconds: float = 0.0,
    until: dict[int, int] | None = None,
    events: RecordingEvents | None = None,
) -> KafkaSource:
    """A source that has joined and stands at its committed offsets."""
    events = events or RecordingEvents()
    source = KafkaSource(
        kafka.open_consumer(),
        "reviews",
        SourceOptions(window_records=5, fill_seconds=fill_seconds, until=until),
        state=running(events),
        events=events,
        clock=kafka.clock,
        wait=kafka.clock.advance,
    )
    assert source.poll(0.5) is None
    return source


def raising(error: Exception) -> object:
    raise error


def offsets(window: Window | None) -> list[int]:
    return [record.offset for record in window.records] if window else []


def test_while_a_rebalance_is_under_way_nothing_is_asked_for(kafka: FakeKafka) -> None:
    source = a_source(kafka)
    kafka.calls.clear()
    kafka.rebalancing = True
    source.pause()
    for _ in range(3):
        assert source.poll(0.5) is None
        kafka.clock.advance(LAG_SECONDS)
        source.lag()
    assert kafka.calls == []


def test_a_rebalance_that_ends_in_the_same_generation_loses_nothing(kafka: FakeKafka) -> None:
    source = a_source(kafka)
    kafka.rebalancing = True
    assert source.poll(0.0) is None
    kafka.rebalancing = False
    assert offsets(source.poll(0.5)) == [0, 1, 2, 3, 4]


def test_another_generation_is_told_once_and_reading_goes_on_at_the_committed_offsets(kafka: FakeKafka) -> None:
    source = a_source(kafka)
    window = source.poll(0.5)
    assert window is not None
    source.commit(window)
    assert offsets(source.poll(0.5)) == [5, 6, 7, 8, 9]
    kafka.generation += 1
    with pytest.raises(SourceLost, match="generation 2 now, in generation 1 before"):
        source.poll(0.5)
    assert source.poll(0.5) is None, "what this poll brought may come from an old position"
    assert offsets(source.poll(0.5)) == [5, 6, 7, 8, 9]


def test_after_a_rewind_nothing_is_handed_out_until_the_offsets_could_be_read(kafka: FakeKafka) -> None:
    source = a_source(kafka)
    assert offsets(source.poll(0.5)) == [0, 1, 2, 3, 4]
    source.rewind()
    kafka.failures["committed"] = [Unreachable("no answer"), Unreachable("no answer")]
    assert [source.poll(0.5) for _ in range(3)] == [None] * 3
    assert offsets(source.poll(0.5)) == [0, 1, 2, 3, 4]


def test_what_was_read_before_a_failure_interrupted_the_filling_is_handed_out(kafka: FakeKafka) -> None:
    source = a_source(kafka, fill_seconds=3)
    kafka.log[P0] = kafka.log[P0][:2]
    kafka.script = [lambda: None, lambda: raising(Unreachable("away"))]
    assert offsets(source.poll(0.5)) == [0, 1]


def test_a_rebalance_that_begins_while_a_window_is_filled_drops_all_that_is_in_flight(kafka: FakeKafka) -> None:
    source = a_source(kafka, fill_seconds=3)
    kafka.log[P0] = kafka.log[P0][:2]
    kafka.script = [lambda: None, lambda: setattr(kafka, "rebalancing", True)]
    with pytest.raises(SourceLost):
        source.poll(0.5)


def test_records_that_come_while_paused_drop_all_that_is_in_flight_since_they_are_read_again(kafka: FakeKafka) -> None:
    source = a_source(kafka)
    source.pause()
    kafka.script = [source._consumer.resume]
    with pytest.raises(SourceLost):
        source.poll(0.0)
    source.resume()
    assert source.poll(0.5) is None
    assert offsets(source.poll(0.5)) == [0, 1, 2, 3, 4]


def test_a_bounded_run_ends_before_its_offset_and_knows_when(kafka: FakeKafka) -> None:
    source = a_source(kafka, until={0: 7})
    assert offsets(source.poll(0.5)) == [0, 1, 2, 3, 4]
    assert not source.finished()
    assert offsets(source.poll(0.5)) == [5, 6]
    assert source.finished()
    source.rewind()
    assert not source.finished()


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        # Another poll may spin in the client for ever.
        (UnreadableRecord("bad checksum"), OffsetsLost, r"reviews.*bad checksum.*0:0.*--from"),
        (OffsetOutOfRange("offset 0"), OffsetsLost, r"not in the topic reviews any more.*--from earliest"),
        (FencedInstance("replaced"), Fenced, "--instance-id"),
        (Refused("no read permission"), KafkaUnavailable, "no read permission"),
    ],
)
def test_what_no_further_poll_mends_ends_the_worker(
    kafka: FakeKafka, failure: Exception, error: type[Exception], said: str
) -> None:
    source = a_source(kafka)
    kafka.script = [lambda: raising(failure)]
    with pytest.raises(error, match=said):
        source.poll(0.5)


def test_a_topic_that_is_recreated_under_the_reader_ends_the_worker(kafka: FakeKafka) -> None:
    source = a_source(kafka)
    kafka.recreate("reviews")
    with pytest.raises(OffsetsLost, match="recreated while it was read"):
        source.poll(0.5)


def test_offsets_of_a_topic_that_was_recreated_meanwhile_are_not_used(kafka: FakeKafka) -> None:
    source = a_source(kafka)
    window = source.poll(0.5)
    assert window is not None
    source.commit(window)
    kafka.recreate("reviews")
    for _ in range(RECORDS):
        kafka.add(b"another")
    with pytest.raises(OffsetsLost, match="recreated since offset 5 of partition 0"):
        a_source(kafka)


def test_a_window_of_an_earlier_generation_is_not_committed(kafka: FakeKafka) -> None:
    source = a_source(kafka)
    window = source.poll(0.5)
    assert window is not None
    kafka.generation += 1
    with pytest.raises(DeliveryFailed, match="another generation"):
        source.commit(window)
    assert kafka.committed == {}


def test_the_lag_is_asked_for_while_nothing_is_fetched_but_not_in_a_rebalance(kafka: FakeKafka) -> None:
    source = a_source(kafka)
    kafka.calls.clear()
    source.poll(0.5)
    assert source.lag() == {P0: RECORDS - 5}
    assert kafka.calls == []
    source.pause()
    source.poll(0.0)
    kafka.add(b"one more")
    kafka.clock.advance(LAG_SECONDS)
    assert source.lag() == {P0: RECORDS - 5 + 1}
    assert kafka.calls == ["end_offsets"]


def test_while_kafka_is_away_the_worker_says_that_it_holds(kafka: FakeKafka) -> None:
    events = RecordingEvents()
    source = a_source(kafka, events=events)
    kafka.away = True
    source.poll(AWAY_SECONDS / 2)
    assert events.named("state") == []
    source.poll(AWAY_SECONDS)
    assert events.named("state") == [("holding", "Kafka does not answer.")]
    kafka.away = False
    source.poll(0.5)
    assert events.named("state")[1:] == [("running", "")]
