"""A partition that stands still beside one that flows: a fault of the Kafka client, and the driver's cure.

kafka-python 3.0.12 parks the records of a paused partition and may never give them back after it is resumed. On the real
broker."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from deploy.local.broker import Broker
from tests.conftest import MakeTopics
from tests.integration.test_kafka_membership import Member
from tests.support.harness import produce
from worker.errors import SourceLost

RECORDS = 20
POLLS = 40


def fill(broker: Broker, topic: str, partitions: int) -> None:
    for partition in range(partitions):
        produce(broker.bootstrap, topic, [f"{partition}/{n}" for n in range(RECORDS)], partition=partition)


def test_a_partition_that_a_rebalance_unpaused_stalls_no_other_one(
    broker: Broker, topics: MakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = topics(partitions=2)
    fill(broker, names[0], 2)
    member = Member(broker, names)
    seen: set[str] = set()

    def read(window: Any) -> None:
        if window is not None:
            seen.update((record.value or b"").decode() for record in window.records)

    first = member.next_window()
    read(first)
    member.source.commit(first)
    other = TopicPartition(names[0], 1 - first.records[0].partition)
    member.source.pause()
    assert member.source.poll(0.2) is None  # the client parks what it has read of the first partition
    original = member.client.poll

    def poll(*args: Any, **options: Any) -> Any:
        """What a rebalance does within a poll: the partition is ours again, at its committed offset and not paused."""
        member.client.resume(other)
        return original(*args, **options)

    with monkeypatch.context() as rebalance:
        rebalance.setattr(member.client, "poll", poll)
        for _ in range(POLLS):
            with suppress(SourceLost):
                member.source.poll(0.2)
    member.source.resume()
    for _ in range(POLLS):
        with suppress(SourceLost):
            read(member.source.poll(0.2))
    member.source.close()
    assert len(seen) == 2 * RECORDS


def test_canary_the_client_still_forgets_what_it_parked(broker: Broker, topics: MakeTopics) -> None:
    """Where this fails, the client has been mended: `_return_parked` in the kafka-python driver can go."""
    [topic] = topics("reviews", partitions=2)
    fill(broker, topic, 2)
    one, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest", group_id=None
    )
    consumer.assign([one, other])
    try:
        polled: dict[TopicPartition, list[Any]] = {}
        while not polled:
            polled = consumer.poll(200, max_records=1)
        [begun] = polled
        consumer.pause(begun)
        [left] = {one, other} - {begun}
        found = 0
        while found < RECORDS:
            found += len(consumer.poll(200).get(left, ()))
        consumer.resume(begun)
        after = [record for _ in range(POLLS) for record in consumer.poll(100).get(begun, ())]
    finally:
        consumer.close(autocommit=False)
    assert after == [], "the client gives the records back by itself now"
