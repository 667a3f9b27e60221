"""How the kafka-python driver polls a group that is being rebalanced."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import ConsumerGroupMetadata, MemberState

from worker.kafka.driver import Unreachable
from worker.kafka.drivers.kafka_python.consumer import JOIN_SECONDS, KafkaPythonConsumer
from worker.records import Membership, Partition, Record
from worker.testing import ManualClock

P0 = TopicPartition("reviews", 0)


class ScriptedClient:
    """Each poll runs the next step of the script: it may change the group's state, and returns offsets or raises."""

    def __init__(self, clock: ManualClock) -> None:
        self.state = MemberState.STABLE
        self.script: list[Callable[[], list[int]]] = []
        self.polls = 0
        self.rejoins = 0
        self._clock = clock
        self._coordinator = SimpleNamespace(request_rejoin=self._rejoin)

    def _rejoin(self) -> None:
        self.rejoins += 1

    def poll(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        self._clock.advance(timeout_ms / 1000)
        offsets = self.script.pop(0)() if self.script else []
        found = [SimpleNamespace(offset=o, timestamp=5, key=None, value=b"x", headers=None) for o in offsets]
        return {P0: found} if found else {}

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata("g", 3, "member", None, self.state)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def client(clock: ManualClock) -> ScriptedClient:
    return ScriptedClient(clock)


@pytest.fixture
def consumer(client: ScriptedClient, clock: ManualClock) -> KafkaPythonConsumer:
    return KafkaPythonConsumer(client, clock, request_timeout_seconds=1)


def test_while_a_rebalance_is_under_way_it_polls_on(consumer: KafkaPythonConsumer, client: ScriptedClient) -> None:
    def begins() -> list[int]:
        client.state = MemberState.REBALANCING
        return []

    def ends() -> list[int]:
        client.state = MemberState.STABLE
        return [0]

    client.script = [begins, list, list, ends]
    assert consumer.poll(0.0, 5) == {Partition(*P0): [Record("reviews", 0, 0, 5, None, b"x")]}
    assert (client.polls, client.rejoins) == (4, 3)


def test_a_rebalance_that_does_not_end_gives_the_reader_back(
    consumer: KafkaPythonConsumer, client: ScriptedClient, clock: ManualClock
) -> None:
    client.state = MemberState.REBALANCING
    began = clock.monotonic()
    assert consumer.poll(0.0, 5) == {}
    assert JOIN_SECONDS <= clock.monotonic() - began < JOIN_SECONDS + 1


def test_a_membership_tells_what_the_group_says(consumer: KafkaPythonConsumer, client: ScriptedClient) -> None:
    client.state = MemberState.REBALANCING
    assert consumer.membership() == Membership(3, "member", "", rebalancing=True, token=client.group_metadata())


def test_a_failed_poll_is_told_in_our_terms(consumer: KafkaPythonConsumer, client: ScriptedClient) -> None:
    def fails() -> list[int]:
        raise kafka_errors.NodeNotReadyError

    client.script = [fails]
    with pytest.raises(Unreachable) as raised:
        consumer.poll(0.0, 5)
    assert raised.value.status == "NodeNotReadyError"
    assert isinstance(raised.value.__cause__, kafka_errors.NodeNotReadyError)
