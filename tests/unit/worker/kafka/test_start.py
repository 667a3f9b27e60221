"""What happens between the first connection and the first poll, over brokers in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event
from typing import Any

import pytest

from worker.errors import ConfigError, KafkaUnavailable
from worker.kafka import Kafka
from worker.kafka.driver import Committed, CredentialsRefused, KafkaFailure, Refused, Unreachable
from worker.kafka.testing import FakeKafka
from worker.records import Partition
from worker.settings import Settings
from worker.testing import RecordingEvents, running

P0, P1 = Partition("reviews", 0), Partition("reviews", 1)


@pytest.fixture
def brokers() -> FakeKafka:
    """Five records in one partition, two in the other, a second apart."""
    made = FakeKafka(reviews=2, labels=2, dead=1)
    for partition, count in ((0, 5), (1, 2)):
        for _ in range(count):
            made.add(b"text", partition)
            made.clock.advance(1)
    return made


def a_kafka(
    brokers: FakeKafka, *, bounded: Callable[[Mapping[int, int] | None], None] = lambda _: None, **settings: Any
) -> Kafka:
    topics = {"input_topic": "reviews", "output_topic": "labels", "dead_letter_topic": "dead"}
    return Kafka(
        Settings(bootstrap="kafka:9092", **topics | settings),
        state=running(RecordingEvents()),
        events=RecordingEvents(),
        clock=brokers.clock,
        retry=lambda call: call(),
        wait=lambda seconds: brokers.clock.wait(Event(), seconds),
        bounded=bounded,
        driver=brokers,
    )


def opened(brokers: FakeKafka, **settings: Any) -> Kafka:
    kafka = a_kafka(brokers, **settings)
    kafka.connect()
    kafka.start()
    return kafka


def at(brokers: FakeKafka) -> dict[Partition, int]:
    return {partition: committed.offset for partition, committed in brokers.committed.items()}


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (Unreachable("nobody"), KafkaUnavailable, "connecting to Kafka at kafka:9092: nobody"),
        (KafkaFailure("odd"), KafkaUnavailable, "connecting to Kafka at kafka:9092: odd"),
        (Refused("a limit"), ConfigError, "connecting to Kafka at kafka:9092: a limit"),
        (CredentialsRefused("no"), ConfigError, "refuses the credentials: no.*kafka-sasl-password"),
    ],
)
def test_what_waiting_may_mend_is_told_from_what_it_cannot(
    brokers: FakeKafka, failure: KafkaFailure, error: type[Exception], said: str
) -> None:
    brokers.failures["open_consumer"] = [failure]
    with pytest.raises(error, match=said):
        a_kafka(brokers).connect()


def test_a_missing_topic_is_created_where_that_is_allowed(brokers: FakeKafka) -> None:
    with pytest.raises(ConfigError, match=r"no such topic at kafka:9092: other\..*--create-topics"):
        a_kafka(brokers, output_topic="other").connect()
    a_kafka(brokers, output_topic="other", create_topics=True, create_partitions=4).connect()
    assert len(brokers.partitions("other")) == 4
    assert len(brokers.partitions("labels")) == 2


@pytest.mark.parametrize(
    ("start", "offsets"),
    [
        ("committed", {}),
        ("earliest", {P0: 0, P1: 0}),
        ("latest", {P0: 5, P1: 2}),
        ("0:3,1:2", {P0: 3, P1: 2}),
        # Between the third and the fourth record of the first partition.
        ("1970-01-12T13:46:42.500", {P0: 3, P1: 0}),
        ("1970-01-13", {P0: 5, P1: 2}),
    ],
)
def test_a_start_is_committed_before_the_group_is_joined(
    brokers: FakeKafka, start: str, offsets: dict[Partition, int]
) -> None:
    opened(brokers, start=start)
    assert at(brokers) == offsets
    assert {committed.metadata for committed in brokers.committed.values()} <= {"id-of-reviews"}


@pytest.mark.parametrize(
    ("start", "said"),
    [("2:0", "names partition 2; the topic reviews has 2, from 0 on"), ("0:6", "there are 0 to 5")],
)
def test_a_start_that_is_not_there_is_refused(brokers: FakeKafka, start: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        opened(brokers, start=start)
    assert brokers.committed == {}


@pytest.mark.parametrize(
    ("until", "ends"), [("", None), ("end", {0: 5, 1: 2}), ("0:3", {0: 3}), ("0:9,1:0", {0: 9, 1: 0})]
)
def test_the_bounds_are_told_before_the_group_is_joined(
    brokers: FakeKafka, until: str, ends: dict[int, int] | None
) -> None:
    told: list[tuple[Mapping[int, int] | None, dict[Partition, int]]] = []
    opened(brokers, start="earliest", until=until, bounded=lambda until: told.append((until, at(brokers))))
    assert told == [(ends, {P0: 0, P1: 0})]


def test_an_end_in_a_partition_that_is_not_there_is_refused(brokers: FakeKafka) -> None:
    with pytest.raises(ConfigError, match="until names partition 2; the topic reviews has 2, from 0 on"):
        opened(brokers, until="2:0")


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (Refused("GroupIdInvalid"), ConfigError, "cannot be set: GroupIdInvalid"),
        (Unreachable("no coordinator"), KafkaUnavailable, "no coordinator"),
    ],
)
def test_a_start_that_could_not_be_set_says_why(
    brokers: FakeKafka, failure: KafkaFailure, error: type[Exception], said: str
) -> None:
    brokers.failures["set_group_offsets"] = [failure]
    with pytest.raises(error, match=said):
        opened(brokers, start="earliest")


def test_a_start_while_the_group_has_members_is_refused(brokers: FakeKafka) -> None:
    brokers.committed = {P0: Committed(1, "")}
    opened(brokers)
    with pytest.raises(ConfigError, match="still has members"):
        opened(brokers, start="earliest")
    assert at(brokers) == {P0: 1}


def test_closing_closes_what_was_opened_however_far_it_came(brokers: FakeKafka) -> None:
    a_kafka(brokers).close()
    kafka = a_kafka(brokers)
    brokers.failures["partition_counts"] = [Unreachable("away")]
    with pytest.raises(KafkaUnavailable):
        kafka.connect()
    kafka.close()
    assert brokers.members == 0
    kafka = opened(brokers)
    kafka.close()
    kafka.close()
    assert brokers.members == 0
