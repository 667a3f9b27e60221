"""A request of one transaction that arrives in the middle of the next one: it was sent again, and its first copy is late.

The protocol from before KIP-890 cannot tell, so the brokers must be able to refuse it by its epoch. Each case is shown
without the guard first, or the test would prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.test_source_and_delivery import KafkaWorld, labelled, next_window
from tests.faults.proxy import ApiKey, Proxy
from tests.faults.world import World
from tests.support.harness import committed_offsets
from worker.errors import DeliveryFailed
from worker.kafka.delivery import ExactlyOnce
from worker.kafka.driver import KafkaFailure
from worker.kafka.drivers.kafka_python.producer import KafkaPythonProducer
from worker.kafka.drivers.librdkafka.producer import LibrdkafkaProducer

PRODUCERS: dict[str, Any] = {"kafka-python": KafkaPythonProducer, "librdkafka": LibrdkafkaProducer}
"""The producer of each driver, by the driver's name."""
guards = pytest.mark.parametrize("guarded", [False, True], ids=["without the guard", "with it"])


class Behind:
    """Source and delivery of one worker, behind a proxy, with one review delivered whose request of `kind` is late."""

    def __init__(self, world: World, driver: str) -> None:
        spare = world.spares[0]
        self.proxy: Proxy = spare.kafka
        topics = world.fresh_topics(partitions=1)
        self.topics = topics
        self.kafka = KafkaWorld(
            self.proxy.address, [topics.reviews, topics.labels, topics.dead], "exactly-once", driver
        )
        self.producer = PRODUCERS[driver]

    def deliver(self, *texts: str) -> None:
        self.kafka.add(*texts)
        window = next_window(self.kafka)
        self.kafka.delivery.deliver(window, labelled(window), [])

    def deliver_with_late(self, kind: ApiKey, text: str) -> None:
        self.proxy.hold_back(kind)
        self.deliver(text)
        assert self.proxy.holds_back, "the client has sent it again, and the transaction is committed"

    @property
    def committed(self) -> int:
        return committed_offsets(self.topics.bootstrap, self.kafka.settings.group, self.topics.reviews)[0]


@pytest.fixture(params=PRODUCERS)
def behind(world: World, request: pytest.FixtureRequest) -> Iterator[Behind]:
    made = Behind(world, request.param)
    yield made
    made.proxy.let_through()
    made.kafka.close()


def after(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, then: Callable[[], None]) -> None:
    """`then` runs whenever the method has returned."""
    original = getattr(owner, method)

    def wrapped(*args: Any, **options: Any) -> Any:
        returned = original(*args, **options)
        then()
        return returned

    monkeypatch.setattr(owner, method, wrapped)


def without_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    for producer in PRODUCERS.values():
        monkeypatch.setattr(producer, "_in_doubt", lambda _self: False)


@guards
def test_a_late_end_does_not_commit_the_next_transaction(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    if not guarded:
        without_guard(monkeypatch)
    behind.deliver_with_late(ApiKey.END_TXN, "one")

    def fail() -> None:
        behind.proxy.let_through()
        raise KafkaFailure("whatever fails a transaction after its results were sent")

    with monkeypatch.context() as failing:
        after(failing, behind.producer, "send", fail)
        with pytest.raises(DeliveryFailed):
            behind.deliver("two")
    # The answer to the second review is visible although its transaction failed, and it will be answered once more.
    assert len(behind.kafka.visible()) == (1 if guarded else 2)
    assert behind.committed == 1


@guards
def test_late_offsets_do_not_set_back_those_of_the_next_transaction(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    if not guarded:
        without_guard(monkeypatch)
    behind.deliver_with_late(ApiKey.TXN_OFFSET_COMMIT, "one")
    with monkeypatch.context() as late:
        after(late, behind.producer, "send_offsets", behind.proxy.let_through)
        behind.deliver("two")
    assert len(behind.kafka.visible()) == 2
    assert behind.committed == (2 if guarded else 1)


def test_a_transaction_without_doubt_keeps_its_producer(behind: Behind) -> None:
    behind.deliver("one")
    assert isinstance(behind.kafka.delivery, ExactlyOnce)
    kept = behind.kafka.delivery._producer
    behind.deliver("two")
    assert behind.kafka.delivery._producer is kept
