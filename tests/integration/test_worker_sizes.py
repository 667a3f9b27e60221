"""Answers that a topic does not take for their size: nobody else pays for them, and nothing is lost."""

from __future__ import annotations

import json

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from tests.harness import review_json, wait_for
from tests.integration.worker_world import World, delivered, some_reviews, total
from worker.records import Reason

DELIVERIES = ["exactly-once", "at-least-once"]
BROKERS_LIMIT_BYTES = 1_048_588
"""`max.message.bytes` as brokers have it by default; it holds for a batch of records, with its overhead."""


def limit(world: World, topic: str, size_bytes: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(size_bytes)})])
    finally:
        admin.close()


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_topic_that_takes_small_batches_gets_every_result(world: World, delivery: str) -> None:
    limit(world, world.labels, 20_000)
    for partition in range(world.partitions):
        world.push(map(review_json, some_reviews(400, seed=partition)), partition=partition)
    world.worker(delivery=delivery)
    assert_answered(world, delivery)
    assert world.dead_letters() == {}


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_result_that_is_too_large_is_a_dead_letter_and_its_window_is_answered(world: World, delivery: str) -> None:
    limit(world, world.labels, 1_000)
    ids = [f"{n}-{'x' * (900 if n % 10 == 3 else 5)}" for n in range(30)]
    # Over several partitions: the client fails the batches of the others along with the one that is refused.
    world.push([json.dumps({"id": i, "text": "a good film"}) for i in ids], key=lambda n: b"%d" % n)
    worker = world.worker(delivery=delivery)
    assert_answered(world, delivery)
    letters = world.dead_letters()
    wait_for(lambda: total(worker, "inferry_dead_letters_total") >= 3, 10, "the metrics")
    assert (delivered(worker), total(worker, "inferry_dead_letters_total")) == (27, 3)
    assert {json.loads(letter.value or b"")["id"] for letter, _ in letters.values()} == {i for i in ids if len(i) > 900}
    for _, told in letters.values():
        assert (told.reason, told.stage) == (Reason.RESULT_TOO_LARGE, "deliver")
        assert "max.message.bytes" in told.message


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_dead_letter_that_is_too_large_with_its_headers_leaves_its_value_behind(world: World, delivery: str) -> None:
    values = [review_json("a good film"), b"x" * (BROKERS_LIMIT_BYTES - 200), b"\xff", review_json("awful")]
    world.push(values, partition=0, key=lambda n: b"%d" % n, max_request_size=2**21)
    world.worker(delivery=delivery, dead_letter_share=1)
    assert_answered(world, delivery)
    letters = {letter.key: (letter, told) for letter, told in world.dead_letters().values()}
    assert set(letters) == {b"1", b"2"}
    letter, told = letters[b"1"]
    assert letter.value == b""
    assert told.reason == Reason.TOO_LARGE
    assert f"its value of {len(values[1])} bytes is too large to keep here" in told.message
    assert letters[b"2"][0].value == b"\xff"


def assert_answered(world: World, delivery: str) -> None:
    if delivery == "exactly-once":
        world.assert_each_once()
    else:
        world.assert_none_lost()
