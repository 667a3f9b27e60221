"""Which producer the next transaction gets, on the real broker."""

from __future__ import annotations

from types import ModuleType

import pytest

from deploy.local.broker import Broker
from tests.conftest import MakeTopics
from tests.contract.test_source_and_delivery import KafkaWorld, labelled, next_window
from worker.kafka.delivery import ExactlyOnce
from worker.kafka.drivers.kafka_python import producer as kafka_python
from worker.kafka.drivers.librdkafka import producer as librdkafka


@pytest.mark.parametrize(("driver", "module"), [("kafka-python", kafka_python), ("librdkafka", librdkafka)])
@pytest.mark.parametrize(("slow_seconds", "kept"), [(60.0, True), (0.0, False)])
def test_after_a_slow_commit_the_next_transaction_has_another_epoch(
    broker: Broker,
    topics: MakeTopics,
    monkeypatch: pytest.MonkeyPatch,
    driver: str,
    module: ModuleType,
    slow_seconds: float,
    kept: bool,
) -> None:
    """So a commit request that is late cannot end a transaction it was not meant for."""
    monkeypatch.setattr(module, "SLOW_CALL_SECONDS", slow_seconds)
    world = KafkaWorld(broker.bootstrap, topics(partitions=1), "exactly-once", driver)
    assert isinstance(world.delivery, ExactlyOnce)
    producers = []
    for text in ("a", "b"):
        world.add(text)
        window = next_window(world)
        world.delivery.settle()
        producers.append(world.delivery._producer)
        world.delivery.deliver(window, labelled(window), [])
    world.close()
    assert (producers[0] is producers[1]) is kept
    assert len(world.visible()) == 2
