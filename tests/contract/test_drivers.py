"""What every driver promises beyond what Source and Delivery show, on the real broker: see worker.kafka.driver."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from deploy.local.broker import Broker
from tests.conftest import MakeTopics, create_topics
from tests.support.harness import produce, wait_for
from worker.clock import SystemClock
from worker.kafka.driver import (
    Committed,
    Consumer,
    Driver,
    GroupHasMembers,
    KafkaFailure,
    NoCommittedOffset,
    Outgoing,
    Unreachable,
)
from worker.kafka.drivers import MAKERS, make_driver
from worker.records import UNREADABLE_HEADERS, Partition, Record
from worker.settings import Settings

WAIT_SECONDS = 30.0
TEXT = "the topic's id"


class Place:
    """One fresh input topic of two partitions and its group, with any driver."""

    def __init__(self, broker: Broker, topics: MakeTopics) -> None:
        self.bootstrap = broker.bootstrap
        self.topic, self.labels, self.dead = topics(partitions=2)
        self.partitions = [Partition(self.topic, number) for number in range(2)]
        self._consumers: list[Consumer] = []

    def driver(self, name: str, **settings: Any) -> Driver:
        topics = {"input_topic": self.topic, "output_topic": self.labels, "dead_letter_topic": self.dead}
        own = Settings(bootstrap=self.bootstrap, group=f"group-of-{self.topic}", **{**topics, **settings})
        return make_driver(name, own, SystemClock())

    def consumer(self, name: str, **settings: Any) -> Consumer:
        made = self.driver(name, **settings).open_consumer()
        made.partition_counts([self.topic])
        self._consumers.append(made)
        return made

    def fill(self, *values: bytes | None, partition: int = 0, **options: Any) -> None:
        produce(self.bootstrap, self.topic, values, partition=partition, **options)

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()


@pytest.fixture
def place(broker: Broker, topics: MakeTopics) -> Iterator[Place]:
    made = Place(broker, topics)
    yield made
    made.close()


drivers = pytest.mark.parametrize("driver", MAKERS)


def settled(consumer: Consumer, partitions: int = 2) -> None:
    """Polls until the member has that many partitions; what comes meanwhile is dropped."""

    def joined() -> bool:
        with suppress(NoCommittedOffset):
            consumer.poll(0.1, 10)
        membership = consumer.membership()
        return membership.joined and not membership.rebalancing and len(consumer.assignment()) == partitions

    wait_for(joined, WAIT_SECONDS, "an assignment")


def read(consumer: Consumer, count: int, max_records: int = 500) -> list[Record]:
    found: list[Record] = []

    def enough() -> bool:
        for records in consumer.poll(0.2, max_records).values():
            found.extend(records)
        return len(found) >= count

    wait_for(enough, WAIT_SECONDS, f"{count} records")
    return found


@drivers
def test_before_the_first_poll_a_consumer_is_no_member(place: Place, driver: str) -> None:
    """So where to start can be set while it is there."""
    consumer = place.consumer(driver)
    time.sleep(1)

    def set_offsets() -> bool:
        try:
            place.driver(driver).set_group_offsets({place.partitions[0]: 3}, TEXT)
        except Unreachable:  # a broker makes the topic of all offsets when the first group is asked for
            return False
        return True

    wait_for(set_offsets, WAIT_SECONDS, "the group's coordinator")
    assert not consumer.membership().joined
    assert consumer.committed(place.partitions) == {place.partitions[0]: Committed(3, TEXT)}
    settled(consumer)
    with pytest.raises(GroupHasMembers):
        place.driver(driver).set_group_offsets({place.partitions[0]: 3}, TEXT)


@pytest.mark.parametrize(("writer", "reader"), list(itertools.product(MAKERS, MAKERS)))
def test_what_one_driver_has_committed_another_one_reads(place: Place, writer: str, reader: str) -> None:
    """A group changes its client worker by worker: offsets, their text and the topic's id are the same for both."""
    consumer = place.consumer(writer)
    settled(consumer)
    topic_id = consumer.topic_id(place.topic)
    assert topic_id
    consumer.commit({place.partitions[0]: 1}, topic_id)
    producer = place.driver(writer).open_producer(f"id-of-{place.topic}")
    producer.begin()
    producer.send_offsets({place.partitions[1]: 2}, topic_id, consumer.membership())
    producer.commit()
    producer.discard()
    other = place.consumer(reader)
    assert other.topic_id(place.topic) == topic_id
    assert other.committed(place.partitions) == {
        place.partitions[0]: Committed(1, topic_id),
        place.partitions[1]: Committed(2, topic_id),
    }
    # Without this end librdkafka reads on, now and then, into whatever follows in memory.
    assert committed_text(place) == [f"{topic_id}\0"] * 2


def committed_text(place: Place) -> list[str]:
    """What was committed with the offset of each partition, as the broker has it."""
    group = f"group-of-{place.topic}"
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap)
    try:
        return [at.metadata for _, at in sorted(admin.list_group_offsets({group: None})[group].items())]
    finally:
        admin.close()


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(MAKERS, 2)))
def test_members_with_different_drivers_share_a_group(place: Place, one: str, other: str) -> None:
    first = place.consumer(one)
    settled(first)
    second = place.consumer(other)
    wait_for(lambda: [settled_once(c) for c in (first, second)] == [1, 1], WAIT_SECONDS, "a partition for each")
    assert first.assignment() | second.assignment() == set(place.partitions)
    second.close()
    settled(first)


@pytest.mark.parametrize("protocol", ["cooperative", "consumer"])
def test_a_rebalance_takes_and_gives_single_partitions(place: Place, protocol: str) -> None:
    """With the protocols that only librdkafka has. What comes has no position until the policy has said one."""

    def a_member() -> Consumer:
        return place.consumer("librdkafka", kafka_client="librdkafka", kafka_group_protocol=protocol)

    first = a_member()
    settled(first)
    first.seek(dict.fromkeys(place.partitions, 0))
    place.fill(b"0", partition=0)
    place.fill(b"1", partition=1)
    assert sorted(record.value or b"" for record in read(first, 2)) == [b"0", b"1"]
    second = a_member()
    wait_for(lambda: [settled_once(c) for c in (first, second)] == [1, 1], WAIT_SECONDS, "a partition for each")
    [kept], [given] = first.assignment(), second.assignment()
    assert {kept, given} == set(place.partitions)
    assert (first.position(kept), first.position(given), second.position(given)) == (1, -1, -1)
    second.seek({given: 0})
    place.fill(b"2", partition=0)
    place.fill(b"3", partition=1)
    assert [(record.partition, record.offset) for record in read(first, 1)] == [(kept.partition, 1)]
    assert [(record.partition, record.offset) for record in read(second, 2)] == [(given.partition, n) for n in (0, 1)]
    stale = first.membership()
    second.close()
    settled(first)
    assert first.position(given) == -1
    assert not first.membership().same(stale)
    first.seek({given: 1})
    assert [(record.partition, record.offset) for record in read(first, 1)] == [(given.partition, 1)]
    producer = place.driver("librdkafka").open_producer(f"id-of-{place.topic}")
    producer.begin()
    with pytest.raises(KafkaFailure):
        producer.send_offsets({given: 2}, TEXT, stale)
    producer.discard()


def settled_once(consumer: Consumer) -> int:
    """One poll; how many partitions the member has, 0 while it rebalances."""
    with suppress(NoCommittedOffset):
        consumer.poll(0.1, 10)
    return 0 if consumer.membership().rebalancing else len(consumer.assignment())


@drivers
def test_positions_move_with_what_is_handed_out_and_over_marks(place: Place, driver: str) -> None:
    consumer = place.consumer(driver)
    settled(consumer)
    first, second = place.partitions
    place.fill(*(b"%d" % n for n in range(5)))
    producer = place.driver(driver).open_producer(f"id-of-{place.topic}")
    for end in (producer.commit, producer.abort):
        producer.begin()
        assert not producer.send([Outgoing(place.topic, 0, None, b"x", [])])
        end()
    producer.discard()
    consumer.seek({first: 0, second: 0})
    assert [record.offset for record in read(consumer, 3, max_records=3)] == [0, 1, 2]
    assert consumer.position(first) == 3
    assert [record.offset for record in read(consumer, 3)] == [3, 4, 5]
    # After them: the commit's mark, an aborted record and its mark.
    wait_for(lambda: not consumer.poll(0.1, 10) and consumer.position(first) == 9, WAIT_SECONDS, "the end")
    assert consumer.end_offsets([first]) == {first: 9}
    assert consumer.beginning_offsets(place.partitions) == {first: 0, second: 0}
    consumer.seek({first: 4, second: 0})
    assert [record.offset for record in read(consumer, 2)] == [4, 5]


@drivers
def test_of_compressed_transactions_the_committed_ones_are_handed_out_whoever_reads_on(
    place: Place, driver: str
) -> None:
    """In every codec, and on both sides of a rebalance."""

    def fill(half: bytes) -> list[tuple[int, bytes]]:
        for codec in ("gzip", "snappy", "lz4", "zstd"):
            producer = KafkaProducer(
                bootstrap_servers=place.bootstrap, transactional_id=f"of-{place.topic}", compression_type=codec
            )
            producer.init_transactions()
            for end, what in ((producer.abort_transaction, b"aborted"), (producer.commit_transaction, codec.encode())):
                producer.begin_transaction()
                for partition in (0, 1):
                    for _ in range(3):
                        producer.send(place.topic, half + what * 20, partition=partition)
                producer.flush()
                end()
            producer.close()
        return [(number, half + codec * 20) for number in (0, 1) for codec in (b"gzip", b"snappy", b"lz4", b"zstd")] * 3

    def handed_out(records: Sequence[Record]) -> list[tuple[int, bytes]]:
        return sorted((record.partition, record.value or b"") for record in records)

    first = place.consumer(driver)
    settled(first)
    first.seek(dict.fromkeys(place.partitions, 0))
    before = fill(b"before ")
    assert handed_out(read(first, len(before))) == sorted(before)
    wait_for(lambda: not first.poll(0.1, 10), WAIT_SECONDS, "the end")
    ends = {partition: first.position(partition) for partition in place.partitions}
    second = place.consumer(driver)
    wait_for(lambda: [settled_once(c) for c in (first, second)] == [1, 1], WAIT_SECONDS, "a partition for each")
    for each in (first, second):
        each.seek({partition: ends[partition] for partition in each.assignment()})
    after = fill(b"after ")
    found = [record for each in (first, second) for record in read(each, len(after) // 2)]
    assert handed_out(found) == sorted(after)


@drivers
def test_records_are_handed_out_as_they_are(place: Place, driver: str) -> None:
    consumer = place.consumer(driver)
    settled(consumer)
    place.fill(None, key=lambda _: b"k")
    place.fill(b"", key=lambda _: b"")
    place.fill(b"v" * 300_000, key=lambda _: b"k" * 300_000)
    place.fill(b"v", headers=[("name", b"value"), ("name", b"")])
    consumer.seek(dict.fromkeys(place.partitions, 0))
    null, empty, large, with_headers = read(consumer, 4)
    assert (null.key, null.value, null.headers) == (b"k", None, ())
    assert (empty.key, empty.value) == (b"", b"")
    assert (len(large.key or b""), len(large.value or b"")) == (300_000, 300_000)
    assert list(with_headers.headers) == [("name", b"value"), ("name", b"")]
    assert abs(with_headers.timestamp_ms / 1000 - time.time()) < 600


class RawName(str):
    """A header's name whose bytes on the wire are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff" + super().encode()


def test_a_header_s_name_that_is_not_utf8_stops_nothing(place: Place) -> None:
    """librdkafka's Python binding gives out none of the record's headers then. Once the interpreter has specialised the
    call, the error is not raised by it but pending after it: so other records come first."""
    place.fill(*[b"before"] * 60)
    place.fill(b"odd", headers=[(RawName(b"name"), b"value")])
    place.fill(b"after")
    consumer = place.consumer("librdkafka")
    settled(consumer)
    consumer.seek(dict.fromkeys(place.partitions, 0))
    *_, before, odd, after = read(consumer, 62)
    assert (before.headers, before.value) == ((), b"before")
    assert odd.headers is UNREADABLE_HEADERS
    assert (odd.value, odd.offset) == (b"odd", 60)
    assert (after.headers, after.value) == ((), b"after")


@drivers
def test_what_is_published_comes_out_as_it_was_given(place: Place, driver: str) -> None:
    producer = place.driver(driver).open_producer()
    given = [
        Outgoing(place.labels, 1, b"", b"", [("empty", b"")]),
        Outgoing(place.labels, 1, b"k", None, []),
        Outgoing(place.labels, 1, None, b"v", [("größe", b"\xff"), ("a", b"1"), ("a", b"2")]),
        Outgoing(place.labels, 1, b"k" * 300_000, b"v" * 300_000, [("long", b"h" * 10_000)]),
    ]
    assert not producer.send(given)
    producer.discard()
    with_client = KafkaConsumer(
        place.labels, bootstrap_servers=place.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=2_000
    )
    found = [(m.partition, m.key, m.value, list(m.headers)) for m in with_client]
    with_client.close()
    assert found == [(1, out.key, out.value, out.headers) for out in given]


def test_the_batches_of_librdkafka_are_no_larger_than_their_topic_takes(place: Place) -> None:
    """It never splits one that is refused, and those behind it may get through before it is sent again."""
    [small] = create_topics(place.bootstrap, "small", partitions=1)
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, small, {"max.message.bytes": "20000"})])
    admin.close()
    producer = place.driver("librdkafka", output_topic=small).open_producer()
    assert not producer.send([Outgoing(small, 0, None, b"v" * 500, []) for _ in range(400)])
    producer.discard()


def test_keys_go_to_the_same_partitions_with_every_driver(place: Place) -> None:
    keys = [b"", *(b"key %d" % n for n in range(60))]
    for name in MAKERS:
        producer = place.driver(name).open_producer()
        assert not producer.send([Outgoing(place.labels, None, key, name.encode(), []) for key in keys])
        producer.discard()
    with_client = KafkaConsumer(
        place.labels, bootstrap_servers=place.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=2_000
    )
    partitions: dict[bytes, dict[bytes, int]] = {name.encode(): {} for name in MAKERS}
    for message in with_client:
        partitions[message.value][message.key] = message.partition
    with_client.close()
    chosen = list(partitions.values())
    assert all(each == chosen[0] for each in chosen)
    assert set(chosen[0].values()) == {0, 1}


@drivers
@pytest.mark.parametrize("paused", [False, True])
def test_a_commit_from_another_thread_does_not_wait_for_records(place: Place, driver: str, paused: bool) -> None:
    consumer = place.consumer(driver)
    settled(consumer)
    consumer.seek(dict.fromkeys(place.partitions, 0))
    if paused:
        consumer.pause()
    done: list[Callable[[], object]] = []

    def commit() -> None:
        for offset in range(3):
            consumer.commit({place.partitions[0]: offset}, TEXT)
            done.append(commit)

    thread = Thread(target=commit)
    thread.start()
    consumer.poll(WAIT_SECONDS / 6, 10)  # nothing comes
    polled_with = len(done)
    thread.join()
    assert polled_with == 3
    assert consumer.committed(place.partitions) == {place.partitions[0]: Committed(2, TEXT)}
