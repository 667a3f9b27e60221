"""What the Kafka client does to a member of a group, and its driver and the source make up for. On the real broker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from threading import Event
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.future import Future
from kafka.structs import MemberState, OffsetAndMetadata

from deploy.local.broker import Broker
from tests.conftest import MakeTopics
from tests.support.harness import produce, wait_for
from worker.clock import SystemClock
from worker.errors import SourceLost
from worker.kafka.drivers import make_driver
from worker.kafka.drivers.kafka_python.consumer import KafkaPythonConsumer
from worker.kafka.source import KafkaSource, SourceOptions
from worker.kafka.topics import check_topics
from worker.records import Partition, Window
from worker.settings import Settings
from worker.testing import RecordingEvents, running

WAIT_SECONDS = 30.0


class Member:
    """A source and its consumer, the only ones in their group."""

    def __init__(self, broker: Broker, names: list[str]) -> None:
        reviews, labels, dead = names
        settings = Settings(
            bootstrap=broker.bootstrap,
            group=f"group-of-{reviews}",
            input_topic=reviews,
            output_topic=labels,
            dead_letter_topic=dead,
        )
        clock, stop = SystemClock(), Event()
        driver = make_driver("kafka-python", settings, clock)
        self.consumer = driver.open_consumer()
        check_topics(driver, self.consumer, settings)  # as the worker does at its start, for the metadata it brings
        self.source = KafkaSource(
            self.consumer,
            reviews,
            SourceOptions(window_records=5),
            state=running(RecordingEvents()),
            events=RecordingEvents(),
            clock=clock,
            wait=lambda seconds: clock.wait(stop, seconds),
        )

    @property
    def client(self) -> KafkaConsumer:
        """What the driver drives."""
        assert isinstance(self.consumer, KafkaPythonConsumer)
        return self.consumer._client

    def next_window(self) -> Window:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            with suppress(SourceLost):
                window = self.source.poll(0.2)
                if window is not None:
                    return window
        raise TimeoutError(f"no window within {WAIT_SECONDS:g} s")

    @property
    def generation(self) -> int:
        return self.consumer.membership().generation


@pytest.fixture
def member(broker: Broker, topics: MakeTopics) -> Iterator[Member]:
    names = topics(partitions=3)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    producer.send(names[0], b"a fine film").get(WAIT_SECONDS)
    producer.close()
    made = Member(broker, names)
    yield made
    made.source.close()


def test_a_leader_knows_the_topic_s_partitions_before_it_joins(member: Member) -> None:
    # Otherwise it takes them for new ones at the next refresh, and the whole group rebalances once more.
    assert list(member.client._coordinator._metadata_snapshot.values()) == [{0, 1, 2}]
    member.next_window()
    assert member.generation == 1


def test_a_rejoin_that_outlasts_the_poll_that_began_it_is_taken_up_again(member: Member) -> None:
    first = member.next_window()
    # What the client sees when the topic gets another partition.
    member.client._coordinator._metadata_snapshot = {}
    member.client.poll(0)
    wait_for(lambda: member.generation > 1, WAIT_SECONDS, "the answer to the rejoin")
    assert member.client.group_metadata().state == MemberState.REBALANCING
    again = member.next_window()
    assert again.records[0].value == first.records[0].value
    assert again.membership.generation > first.membership.generation


@pytest.mark.parametrize("partitions", [1, 12])
def test_a_rebalance_reads_all_offsets_at_once(
    broker: Broker, topics: MakeTopics, monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    """Twice for a partition: the client itself at the join, and the source, which trusts no position of the client's."""
    names = topics(partitions=partitions)
    produce(broker.bootstrap, names[0], ["a fine film"], partition=0)
    member = Member(broker, names)
    requests = Counter[str]()

    def count(owner: Any, method: str) -> None:
        original = getattr(owner, method)

        def counted(*args: Any, **options: Any) -> Any:
            requests[method] += 1
            return original(*args, **options)

        monkeypatch.setattr(owner, method, counted)

    count(member.client._coordinator, "_send_offset_fetch_request")
    count(member.client, "beginning_offsets")
    window = member.next_window()
    assert requests == {"_send_offset_fetch_request": 2, "beginning_offsets": 1}
    member.source.commit(window)
    member.source.rewind()
    assert member.source.poll(0.2) is None
    assert requests["_send_offset_fetch_request"] == 3
    member.source.close()


def with_stale_answer(member: Member) -> tuple[TopicPartition, int]:
    """A partition and its committed offset, with an earlier answer to the same question at hand in the client."""
    window = member.next_window()
    member.source.commit(window)
    [(partition, end)] = ((TopicPartition(*p), end) for p, end in window.next_offsets.items())
    stale: Any = Future()
    stale.success({partition: OffsetAndMetadata(0, "", -1)})
    member.client._coordinator._offset_fetch_futures[frozenset([partition])] = stale
    return partition, end


def test_the_answer_to_an_earlier_read_of_the_offsets_is_not_taken(member: Member) -> None:
    partition, end = with_stale_answer(member)
    assert member.consumer.committed([Partition(*partition)])[Partition(*partition)].offset == end


def test_canary_the_client_still_takes_the_answer_to_an_earlier_read(member: Member) -> None:
    """Where this fails, the driver need not clear `_offset_fetch_futures` any more."""
    partition, end = with_stale_answer(member)
    assert member.client._coordinator.fetch_committed_offsets([partition], timeout_ms=10_000)[partition].offset < end
