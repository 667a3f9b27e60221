"""Answers that a topic does not take for their size: nobody else pays for them, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from protos.dead_letters import Cut, DeadLetterInfo, header_bytes
from tests.integration.conftest import deliveries_and_clients
from tests.support.harness import review_json, wait_for
from tests.support.worker_world import World, delivered, some_reviews, total
from worker.records import Reason, Record

DELIVERIES = ["exactly-once", "at-least-once"]
BROKERS_LIMIT_BYTES = 1_048_588
"""`max.message.bytes` as brokers have it by default; it holds for a batch of records, with its overhead."""


def limit(world: World, topic: str, size_bytes: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(size_bytes)})])
    finally:
        admin.close()


@deliveries_and_clients
def test_a_topic_that_takes_small_batches_gets_every_result(world: World, delivery: str) -> None:
    limit(world, world.labels, 20_000)
    for partition in range(world.partitions):
        world.push(map(review_json, some_reviews(400, seed=partition)), partition=partition)
    world.worker(delivery=delivery)
    assert_answered(world, delivery)
    assert world.dead_letters() == {}


@deliveries_and_clients
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
    assert_cut(letter, told, world.inputs(), {"value"})
    assert letters[b"2"][0].value == b"\xff"


class Large(NamedTuple):
    """A record that the input topic just takes, and what its dead letter has to leave out."""

    value: bytes
    key: bytes
    headers: list[tuple[str, bytes]]
    reason: Reason
    cut: set[str]


NEARLY_ALL = BROKERS_LIMIT_BYTES - 288
GOOD_FILM = review_json("a good film")
LARGE = {
    "key": Large(b"\xff", b"k" * NEARLY_ALL, [], Reason.NOT_UTF8, {"key"}),
    "key of a review": Large(GOOD_FILM, b"k" * NEARLY_ALL, [], Reason.RESULT_TOO_LARGE, {"key"}),
    "header": Large(b"\xff", b"k", [("h", b"h" * NEARLY_ALL)], Reason.NOT_UTF8, {"headers"}),
}


@deliveries_and_clients
def test_whatever_is_large_in_a_record_it_is_one_dead_letter_without_that(world: World, delivery: str) -> None:
    for large in LARGE.values():
        world.push(
            [large.value], partition=0, key=lambda _, key=large.key: key, headers=large.headers, max_request_size=2**21
        )
    world.push([GOOD_FILM], partition=0)
    worker = world.worker(delivery=delivery, dead_letter_share=1)
    assert_answered(world, delivery)
    letters, inputs = world.dead_letters(), world.inputs()
    assert len(letters) == len(LARGE)
    for offset, large in enumerate(LARGE.values()):
        letter, told = letters[f"{world.reviews}/0/{offset}"]
        assert told.reason == large.reason
        assert_cut(letter, told, inputs, large.cut)
    assert worker.stop() == 0


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_dead_letter_topic_with_a_small_limit_gets_what_it_takes(world: World, delivery: str) -> None:
    limit(world, world.dead, 3_000)
    one, long_name, many_empty = [("h", b"h")], [("h" * 4_000, b"")], [("", b"")] * 2_000
    given = [(10, 10, one), (4_000, 10, one), (10, 4_000, one), (10, 10, long_name), (10, 10, many_empty)]
    for value, key, headers in [*given, (4_000, 5_000, [("h", b"h" * 6_000)])]:
        world.push([b"\xff" * value], partition=0, key=lambda _, key=key: b"k" * key, headers=headers)
    world.push([GOOD_FILM], partition=0)
    # Its detail alone is longer than the topic takes.
    world.push([b"x"], partition=0, headers=[("content-type", b"nonsense/" + b"n" * 5_000)])
    world.worker(delivery=delivery, dead_letter_share=1)
    assert_answered(world, delivery)
    letters, inputs = world.dead_letters(), world.inputs()
    expected = [set(), {"value"}, {"key"}, {"headers"}, {"headers"}, {"value", "key", "headers"}]
    for offset, cut in enumerate(expected):
        letter, told = letters[f"{world.reviews}/0/{offset}"]
        assert_cut(letter, told, inputs, cut)
    assert letters[f"{world.reviews}/0/7"][1].reason == Reason.UNKNOWN_CONTENT_TYPE


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_topic_that_takes_no_dead_letter_at_all_is_a_wrong_setting_with_its_name(world: World, delivery: str) -> None:
    limit(world, world.dead, 300)
    world.push([b"\xff"])
    worker = world.worker(delivery=delivery)
    assert worker.wait(60) == 78
    assert f"the topic {world.dead} takes no dead letters" in worker.log
    assert "max.message.bytes" in worker.log
    assert world.lag() == 1
    limit(world, world.dead, BROKERS_LIMIT_BYTES)
    world.worker(delivery=delivery, dead_letter_share=1)
    assert_answered(world, delivery)


def assert_cut(letter: Record, told: DeadLetterInfo, inputs: Mapping[str, Record], cut: set[str]) -> None:
    """The dead letter is its record, but for the parts named: of those it tells size and digest."""
    given = inputs[f"{told.topic}/{told.partition}/{told.offset}"]
    assert letter.value == (b"" if "value" in cut else given.value)
    assert letter.key == (b"" if "key" in cut else given.key)
    kept = [] if "headers" in cut else list(given.headers)
    assert list(letter.headers[: len(kept)]) == kept
    parts = {"value": given.value or b"", "key": given.key or b"", "headers": header_bytes(given.headers)}
    assert told.cut == {part: Cut.of(parts[part]) for part in cut}


def assert_answered(world: World, delivery: str) -> None:
    if delivery == "exactly-once":
        world.assert_each_once()
    else:
        world.assert_none_lost()
