"""What the librdkafka driver makes of a client's messages, rebalances and group metadata."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from worker.kafka.driver import (
    Committed,
    FencedInstance,
    KafkaFailure,
    NoCommittedOffset,
    OffsetOutOfRange,
    Refused,
    UnreadableRecord,
)
from worker.kafka.drivers.librdkafka.admin import ASK_SECONDS, SILENT_SECONDS, TopicWatch
from worker.kafka.drivers.librdkafka.consumer import LibrdkafkaConsumer
from worker.kafka.drivers.librdkafka.errors import Heard
from worker.records import UNREADABLE_HEADERS, Partition
from worker.testing import ManualClock

ONE, OTHER = Partition("reviews", 0), Partition("reviews", 1)
TOPIC_ID = "5b0a4cd1-9f5e-4f7c-8a39-0f3c6f6d7e21"


def metadata(generation: int, member: str) -> bytes:
    return b"CGMDv2:" + generation.to_bytes(4, "little", signed=True) + b"group\0" + member.encode() + b"\0\x01"


def record(offset: int, partition: int = 0) -> Message:
    return Message("reviews", partition, offset, b"key", b"value", timestamp=(1, 1000))


def trouble(code: int, offset: int = -1001, partition: int = 0) -> Message:
    return Message("reviews", partition, offset, error=KafkaError(code))


class Unreadable:
    """A message with a header's name that is not UTF-8."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self.asked = 0

    def headers(self) -> Any:
        self.asked += 1
        return b"\xff".decode()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


class ScriptedClient:
    """Hands out what is in `batches`, one after the other; what is callable is a callback of the client's."""

    def __init__(self) -> None:
        self.batches: list[list[Any] | Callable[[], None]] = []
        self.metadata = metadata(-1, "")
        self.calls: list[tuple[str, Any]] = []
        self.callbacks: dict[str, Any] = {}
        self.refuses: KafkaException | None = None
        self.offsets: list[Any] = []

    def subscribe(self, _topics: list[str], **callbacks: Any) -> None:
        self.calls.append(("subscribe", None))
        self.callbacks = callbacks

    def consume(self, count: int, _timeout: float) -> list[Any]:
        if not self.batches:
            return []
        batch = self.batches[0]
        if not isinstance(batch, list):
            self.batches.pop(0)
            batch()
            return []
        taken, self.batches[0] = batch[:count], batch[count:]
        if not self.batches[0]:
            self.batches.pop(0)
        return taken

    def committed(self, _partitions: list[TopicPartition], timeout: float) -> list[Any]:
        return self.offsets

    def consumer_group_metadata(self) -> bytes:
        return self.metadata

    def __getattr__(self, name: str) -> Callable[..., None]:
        def called(partitions: list[TopicPartition] | None = None) -> None:
            told = None if partitions is None else {tp.partition: tp.offset for tp in partitions}
            self.calls.append((name, told))
            if self.refuses is not None:
                raise self.refuses

        return called

    def assigned(self, *numbers: int) -> Callable[[], None]:
        return lambda: self.callbacks["on_assign"](self, [TopicPartition("reviews", number) for number in numbers])

    def revoked(self, *numbers: int) -> Callable[[], None]:
        return lambda: self.callbacks["on_revoke"](self, [TopicPartition("reviews", number) for number in numbers])


class Answers:
    """An admin client: what it is asked for comes when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Future[Any]] = []

    def ask_for_topics(self, topics: list[str]) -> dict[str, Future[Any]]:
        self.asked.append(Future())
        return dict.fromkeys(topics, self.asked[-1])


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def consumer(client: ScriptedClient, heard: Heard) -> LibrdkafkaConsumer:
    return a_consumer(client, heard, "classic")


@pytest.fixture
def incremental(client: ScriptedClient, heard: Heard) -> LibrdkafkaConsumer:
    return a_consumer(client, heard, "consumer")


def a_consumer(client: ScriptedClient, heard: Heard, group_protocol: str) -> LibrdkafkaConsumer:
    clock = ManualClock()
    admin: Any = Answers()
    return LibrdkafkaConsumer(
        client,
        "reviews",
        admin=admin,
        watch=TopicWatch(admin, "reviews", clock),
        heard=heard,
        clock=clock,
        group_protocol=group_protocol,
        instance_id="me",
        request_timeout_seconds=1,
    )


def join(client: ScriptedClient, consumer: LibrdkafkaConsumer, generation: int = 1) -> None:
    client.metadata = metadata(generation, "member")
    client.batches.append(client.assigned(0, 1))
    consumer.poll(0, 10)
    consumer.seek({ONE: 0, OTHER: 5})


def test_nothing_is_read_before_the_policy_has_said_from_where(
    client: ScriptedClient, consumer: LibrdkafkaConsumer
) -> None:
    join(client, consumer)
    assert client.calls == [
        ("subscribe", None),
        ("assign", {}),
        ("assign", {0: 0, 1: 5}),
        ("resume", {0: -1001, 1: -1001}),
    ]
    client.batches.append(client.revoked(0, 1))
    consumer.poll(0, 10)
    assert client.calls[-1] == ("unassign", None)
    assert (consumer.assignment(), consumer.position(ONE)) == (frozenset(), -1)


def test_what_comes_while_it_is_paused_is_paused_too(client: ScriptedClient, consumer: LibrdkafkaConsumer) -> None:
    consumer.pause()
    join(client, consumer)
    assert client.calls[-1] == ("pause", {0: -1001, 1: -1001})
    consumer.resume()
    consumer.resume()
    assert client.calls[-2:] == [("pause", {0: -1001, 1: -1001}), ("resume", {0: -1001, 1: -1001})]


def test_partitions_come_and_go_one_by_one_where_the_group_protocol_says_so(
    client: ScriptedClient, incremental: LibrdkafkaConsumer
) -> None:
    join(client, incremental)
    client.batches.append(client.revoked(0))
    incremental.poll(0, 10)
    assert client.calls == [
        ("subscribe", None),
        ("incremental_assign", {}),
        ("incremental_unassign", {}),
        ("incremental_assign", {0: 0, 1: 5}),
        ("resume", {0: -1001, 1: -1001}),
        ("incremental_unassign", {0: -1001}),
    ]
    assert incremental.assignment() == {OTHER}
    assert (incremental.position(ONE), incremental.position(OTHER)) == (-1, 5)
    client.batches.append([record(0), record(5, 1)])
    # The first is from before its partition was taken away.
    assert [(p.partition, [r.offset for r in found]) for p, found in incremental.poll(0, 10).items()] == [(1, [5])]
    assert incremental.position(ONE) == -1


def test_a_partition_that_comes_within_an_epoch_is_told_until_it_is_placed(
    client: ScriptedClient, incremental: LibrdkafkaConsumer
) -> None:
    """KIP-848: another member gives it up later than the epoch begins. Untold, it would never be read."""
    join(client, incremental)
    client.batches.append(client.revoked(0))
    incremental.poll(0, 10)
    before = incremental.membership()
    client.batches.append(client.assigned(0))
    incremental.poll(0, 10)
    assert incremental.membership() == before
    with pytest.raises(NoCommittedOffset):
        incremental.poll(0, 10)
    incremental.seek({ONE: 3})
    assert client.calls[-2] == ("incremental_assign", {0: 3, 1: 5})
    incremental.poll(0, 10)


def test_an_epoch_that_rises_without_an_assignment_is_no_rebalance(
    client: ScriptedClient, incremental: LibrdkafkaConsumer
) -> None:
    client.metadata = metadata(0, "member")
    assert incremental.membership().rebalancing
    join(client, incremental)
    client.metadata = metadata(2, "member")
    now = incremental.membership()
    assert (now.generation, now.rebalancing) == (2, False)


def test_a_member_whose_assignment_has_not_come_yet_is_rebalancing(
    client: ScriptedClient, consumer: LibrdkafkaConsumer
) -> None:
    """The generation is a new one before. Taken for settled, what comes with it would never be read."""
    assert not consumer.membership().joined
    client.metadata = metadata(1, "member")
    assert consumer.membership().rebalancing
    join(client, consumer)
    now = consumer.membership()
    assert (now.generation, now.member, now.instance_id, now.rebalancing) == (1, "member", "me", False)
    assert now.token == metadata(1, "member")
    client.metadata = metadata(2, "member")
    assert consumer.membership().rebalancing
    client.metadata = metadata(-1, "")
    assert not consumer.membership().joined
    assert not consumer.membership().rebalancing


def test_group_metadata_in_another_form_is_no_membership_at_all(
    client: ScriptedClient, consumer: LibrdkafkaConsumer
) -> None:
    client.metadata = b"CGMDv3:"
    with pytest.raises(RuntimeError, match="unknown form"):
        consumer.membership()


def test_no_poll_brings_more_than_it_may_and_positions_follow(
    client: ScriptedClient, consumer: LibrdkafkaConsumer
) -> None:
    join(client, consumer)
    client.batches.append([record(0), record(1), record(5, 1), record(2)])
    polled = consumer.poll(0, 3)
    assert {p: [r.offset for r in found] for p, found in polled.items()} == {ONE: [0, 1], OTHER: [5]}
    assert (consumer.position(ONE), consumer.position(OTHER)) == (2, 6)


def test_the_end_of_a_partition_moves_the_position_over_what_is_never_handed_out(
    client: ScriptedClient, consumer: LibrdkafkaConsumer
) -> None:
    join(client, consumer)
    client.batches.append([record(0), trouble(KafkaError._PARTITION_EOF, 3), record(5, 1)])
    assert sum(map(len, consumer.poll(0, 9).values())) == 2
    assert (consumer.position(ONE), consumer.position(OTHER)) == (3, 6)
    consumer.seek({ONE: 1})
    assert consumer.position(ONE) == 1


@pytest.mark.parametrize(
    ("code", "failure"),
    [(KafkaError._AUTO_OFFSET_RESET, OffsetOutOfRange), (KafkaError._BAD_MSG, UnreadableRecord)],
)
def test_what_was_read_before_a_failure_is_handed_out_and_nothing_after_it(
    client: ScriptedClient, consumer: LibrdkafkaConsumer, code: int, failure: type[KafkaFailure]
) -> None:
    """A client that met a damaged batch goes on somewhere behind it."""
    join(client, consumer)
    client.batches.append([record(0), trouble(code), record(700)])
    assert [r.offset for r in consumer.poll(0, 9)[ONE]] == [0]
    with pytest.raises(failure):
        consumer.poll(0, 9)
    assert consumer.position(ONE) == 1


def test_a_failure_that_passes_costs_no_record(client: ScriptedClient, consumer: LibrdkafkaConsumer) -> None:
    join(client, consumer)
    client.batches.append([record(0), trouble(KafkaError.UNKNOWN_TOPIC_OR_PART), record(1)])
    assert [r.offset for r in consumer.poll(0, 9)[ONE]] == [0, 1]
    with pytest.raises(KafkaFailure):
        consumer.poll(0, 9)
    consumer.poll(0, 9)
    client.batches.append([trouble(KafkaError.UNKNOWN_TOPIC_OR_PART)])
    with pytest.raises(KafkaFailure):
        consumer.poll(0, 9)


@pytest.mark.parametrize(
    ("code", "failure"), [(KafkaError.FENCED_INSTANCE_ID, FencedInstance), (KafkaError.UNKNOWN, Refused)]
)
def test_a_fatal_error_is_what_the_client_said_it_was_and_no_waiting_mends_it(
    client: ScriptedClient, consumer: LibrdkafkaConsumer, heard: Heard, code: int, failure: type[KafkaFailure]
) -> None:
    heard(KafkaError(code, fatal=True))
    client.batches.append([trouble(KafkaError._FATAL)])
    for _ in range(2):
        with pytest.raises(failure):
            consumer.poll(0, 9)


def test_headers_that_cannot_be_read_are_asked_for_once(client: ScriptedClient, consumer: LibrdkafkaConsumer) -> None:
    join(client, consumer)
    odd = Unreadable(record(0))
    client.batches.append([odd, record(1)])
    found = consumer.poll(0, 9)[ONE]
    assert found[0].headers is UNREADABLE_HEADERS
    assert (found[1].offset, found[1].headers, odd.asked) == (1, (), 1)


class OverRead:
    """An offset whose committed text did not end with a NUL: what follows it in memory is part of it."""

    error, topic, partition, offset = None, "reviews", 0, 5

    def __init__(self, metadata: bytes) -> None:
        self._metadata = metadata

    @property
    def metadata(self) -> str:
        return self._metadata.decode()


@pytest.mark.parametrize(("behind", "told"), [(b"", TOPIC_ID), (b"1\x01q", TOPIC_ID), (b"\xff", "")])
def test_what_follows_a_topic_id_in_memory_is_no_part_of_it(
    client: ScriptedClient, consumer: LibrdkafkaConsumer, behind: bytes, told: str
) -> None:
    """Taken for the id of another topic, it would stop the worker."""
    client.offsets = [OverRead(TOPIC_ID.encode() + behind)]
    assert consumer.committed([ONE]) == {ONE: Committed(5, told)}


def test_a_callback_never_raises(client: ScriptedClient, consumer: LibrdkafkaConsumer) -> None:
    """The client would lose what it is about to hand out."""
    join(client, consumer)
    client.refuses = KafkaException(KafkaError(KafkaError._FATAL, fatal=True))
    client.batches.append(client.revoked(0, 1))
    with pytest.raises(KafkaFailure):
        consumer.poll(0, 9)


# --- the topic's id --------------------------------------------------------------------------------------------------


class Uuid:
    """As the client's: two signed halves."""

    def get_most_significant_bits(self) -> int:
        return -1

    def get_least_significant_bits(self) -> int:
        return 2


class Described:
    topic_id = Uuid()
    partitions = ("one",)


def test_the_id_is_asked_for_again_and_tells_whether_brokers_answer() -> None:
    clock, admin = ManualClock(), Answers()
    watch = TopicWatch(admin, "reviews", clock)  # type: ignore[arg-type]
    watch.look()
    assert (len(admin.asked), watch.reachable) == (0, True)
    clock.advance(ASK_SECONDS)
    watch.look()
    watch.look()
    assert len(admin.asked) == 1
    clock.advance(SILENT_SECONDS)
    watch.look()
    assert not watch.reachable
    admin.asked[0].set_result(Described())
    watch.look()
    assert watch.reachable
    assert watch.ids == {"reviews": "ffffffff-ffff-ffff-0000-000000000002"}
    admin.asked[1].set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
    clock.advance(SILENT_SECONDS)
    watch.look()
    assert watch.reachable, "brokers have answered that there is no such topic"
    admin.asked[2].set_exception(KafkaException(KafkaError(KafkaError._TRANSPORT)))
    clock.advance(SILENT_SECONDS)
    watch.look()
    assert not watch.reachable
