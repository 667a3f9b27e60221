"""One suite for Source and Delivery: the fakes, and the Kafka adapters over every driver, keep the same promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Event
from typing import Protocol

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from deploy.local.broker import Broker
from protos.codecs import decode_result
from protos.dead_letters import parse
from tests.conftest import MakeTopics
from worker.clock import SystemClock
from worker.errors import DeliveryFailed, SourceLost
from worker.kafka import Kafka
from worker.kafka.driver import Driver
from worker.kafka.drivers import DEFAULT, MAKERS, make_driver
from worker.kafka.testing import FakeKafka
from worker.ports import Clock, Delivery, Source
from worker.records import DeadLetter, Labelled, Reason, Record, Window
from worker.settings import Settings
from worker.testing import FakeDelivery, FakeSource, RecordingEvents, running

WAIT_SECONDS = 30
LIMIT_BYTES = 1_000


class World(Protocol):
    """A source and a delivery that belong together, and a hand on what lies around them."""

    source: Source
    delivery: Delivery

    def add(self, *texts: str) -> None: ...

    def rebalance(self) -> None: ...

    def take_small_results_only(self) -> None: ...

    def visible(self) -> list[str]: ...

    def close(self) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.source = FakeSource(window_records=5, bounded=False)
        self.delivery = FakeDelivery(self.source)
        self._added = 0

    def add(self, *texts: str) -> None:
        for text in texts:
            self.source.add(Record("reviews", 0, self._added, 0, b"key", text.encode()))
            self._added += 1

    def rebalance(self) -> None:
        self.source.rebalance()

    def take_small_results_only(self) -> None:
        self.delivery.refuses = lambda result: len(result.review_id) > LIMIT_BYTES

    def visible(self) -> list[str]:
        return [answer.record.result_id for answer in [*self.delivery.results, *self.delivery.dead_letters]]

    def close(self) -> None:
        self.source.close()
        self.delivery.close()


class Opened:
    """Source and delivery as the worker itself opens them."""

    def __init__(self, settings: Settings, driver: Driver, clock: Clock) -> None:
        self.settings = settings
        stop = Event()
        self._kafka = Kafka(
            settings,
            state=running(RecordingEvents()),
            events=RecordingEvents(),
            clock=clock,
            retry=lambda call: call(),
            wait=lambda seconds: clock.wait(stop, seconds),
            driver=driver,
        )
        self._kafka.connect()
        self.source, self.delivery = self._kafka.start()

    def close(self) -> None:
        self._kafka.close()


class PolicyWorld(Opened):
    """The real adapters over a driver for brokers in memory."""

    def __init__(self, delivery: str) -> None:
        self._brokers = FakeKafka(reviews=1, labels=1, dead=1)
        settings = Settings(
            input_topic="reviews", output_topic="labels", dead_letter_topic="dead", window_records=5, delivery=delivery
        )
        super().__init__(settings, self._brokers, self._brokers.clock)

    def add(self, *texts: str) -> None:
        for text in texts:
            self._brokers.add(text.encode(), key=b"key")

    def rebalance(self) -> None:
        self._brokers.generation += 1

    def take_small_results_only(self) -> None:
        self._brokers.max_bytes["labels"] = LIMIT_BYTES

    def visible(self) -> list[str]:
        logs = [log for partition, log in self._brokers.log.items() if partition.topic != "reviews"]
        return [result_id(record.topic == "labels", record.value, record.headers) for log in logs for record in log]


class KafkaWorld(Opened):
    """The real adapters on a real broker, over a topic of one partition so that its order is the topic's."""

    def __init__(self, bootstrap: str, names: list[str], delivery: str, driver: str = DEFAULT) -> None:
        self._bootstrap = bootstrap
        self._topics = names
        reviews, labels, dead = names
        settings = Settings(
            bootstrap=bootstrap,
            group=f"group-of-{reviews}",
            input_topic=reviews,
            output_topic=labels,
            dead_letter_topic=dead,
            window_records=5,
            delivery=delivery,
        )
        clock = SystemClock()
        super().__init__(settings, make_driver(driver, settings, clock), clock)

    def add(self, *texts: str) -> None:
        producer = KafkaProducer(bootstrap_servers=self._bootstrap)
        for text in texts:
            producer.send(self._topics[0], text.encode(), key=b"key").get(WAIT_SECONDS)
        producer.close()

    def rebalance(self) -> None:
        """Another member joins and leaves: the group ends up in a later generation, and everything is ours again."""
        other = KafkaConsumer(self._topics[0], bootstrap_servers=self._bootstrap, group_id=self.settings.group)
        self.source.pause()
        deadline = time.monotonic() + WAIT_SECONDS
        while other.group_metadata().generation_id < 0 and time.monotonic() < deadline:
            other.poll(200)
            # The group settles only once both have joined again.
            with suppress(SourceLost):
                self.source.poll(0.2)
        other.close()

    def take_small_results_only(self) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self._bootstrap)
        limit = {"max.message.bytes": str(LIMIT_BYTES)}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, self._topics[1], limit)])
        admin.close()

    def visible(self) -> list[str]:
        consumer = KafkaConsumer(
            *self._topics[1:],
            bootstrap_servers=self._bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            consumer_timeout_ms=1500,
        )
        ids = [result_id(m.topic == self._topics[1], m.value, m.headers) for m in consumer]
        consumer.close()
        return ids


def result_id(is_result: bool, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> str:
    """Of which record this is the answer."""
    if is_result:
        return decode_result(value or b"", headers).result_id
    told = parse(headers)
    return f"{told.topic}/{told.partition}/{told.offset}"


KINDS = ("exactly-once", "at-least-once")
WORLDS = [("fake", ""), *((driver, kind) for driver in ("fake", *MAKERS) for kind in KINDS)]
"""The fakes, then each driver with each delivery. The driver `fake` has brokers in memory, the others a real one."""


@pytest.fixture(params=WORLDS, ids=["fakes", *(" ".join(world) for world in WORLDS[1:])])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    driver, delivery = request.param
    made: World
    if not delivery:
        made = FakeWorld()
    elif driver == "fake":
        made = PolicyWorld(delivery)
    else:
        topics: MakeTopics = request.getfixturevalue("topics")
        broker: Broker = request.getfixturevalue("broker")
        made = KafkaWorld(broker.bootstrap, topics(partitions=1), delivery, driver)
    yield made
    made.close()


def next_window(world: World, *, tries: int = 60) -> Window:
    """The next window, whatever rebalances come before it."""
    for _ in range(tries):
        try:
            window = world.source.poll(0.5)
        except SourceLost:
            continue
        if window is not None:
            return window
    raise AssertionError("no window came")


def labelled(window: Window) -> list[Labelled]:
    return [Labelled(r, r.result_id, "positive", 0.9, "m", 1, 3, False) for r in window.records]


def texts(window: Window) -> list[str]:
    return [(record.value or b"").decode() for record in window.records]


def read_all(world: World, count: int, deliver: Callable[[Window], None] | None = None) -> list[str]:
    seen: list[str] = []
    while len(seen) < count:
        window = next_window(world)
        seen += texts(window)
        if deliver is not None:
            deliver(window)
    return seen


def test_every_record_comes_once_in_order_in_windows_of_at_most_the_limit(world: World) -> None:
    wanted = [f"text {n}" for n in range(12)]
    world.add(*wanted)
    sizes: list[int] = []
    assert read_all(world, 12, lambda window: sizes.append(len(window.records))) == wanted
    assert max(sizes) <= 5


def test_a_window_says_which_offsets_to_commit(world: World) -> None:
    world.add("a", "b", "c")
    window = next_window(world)
    assert list(window.next_offsets.values()) == [window.records[-1].offset + 1]


def test_what_was_not_delivered_comes_again_after_a_rewind_and_what_was_does_not(world: World) -> None:
    world.add("a", "b", "c", "d", "e", "f", "g")
    first = next_window(world)
    world.delivery.deliver(first, labelled(first), [])
    rest = [f for f in "abcdefg" if f not in texts(first)]
    assert read_all(world, len(rest)) == rest
    world.source.rewind()
    assert read_all(world, len(rest)) == rest


def test_results_and_dead_letters_of_a_window_are_visible_once_delivered(world: World) -> None:
    world.add("a", "b", "c")
    answered: list[str] = []
    while len(answered) < 3:
        window = next_window(world)
        *good, bad = window.records
        letters = [DeadLetter(bad, Reason.EMPTY, "nothing there")]
        results = [Labelled(r, "", "positive", 0.9, "m", 1, 3, False) for r in good]
        assert not world.delivery.deliver(window, results, letters), "no result became a dead letter"
        answered += [record.result_id for record in window.records]
    assert sorted(world.visible()) == sorted(answered)


def test_a_delivery_tells_which_results_became_dead_letters_because_they_are_too_large(world: World) -> None:
    world.take_small_results_only()
    world.add("a", "b", "c")
    answered = 0
    while answered < 3:
        window = next_window(world)
        large = [record for record in window.records if record.value != b"b"]
        results = [
            Labelled(r, "x" * LIMIT_BYTES * 2 if r in large else "small", "positive", 0.9, "m", 1, 3, False)
            for r in window.records
        ]
        replaced = world.delivery.deliver(window, results, [])
        assert {letter.record.result_id for letter in replaced} == {record.result_id for record in large}
        assert {(letter.reason, letter.stage) for letter in replaced} <= {(Reason.RESULT_TOO_LARGE, "deliver")}
        answered += len(window.records)
    assert len(set(world.visible())) == 3


def test_while_paused_nothing_comes_and_afterwards_nothing_is_missing(world: World) -> None:
    world.add("a", "b")
    seen = read_all(world, 2)
    world.source.pause()
    world.add("c", "d")
    for _ in range(4):
        assert world.source.poll(0.2) is None
    world.source.resume()
    assert seen + read_all(world, 2) == ["a", "b", "c", "d"]


def test_a_window_from_before_a_rebalance_cannot_be_delivered_and_comes_again(world: World) -> None:
    world.add("a", "b", "c")
    stale = next_window(world)
    world.rebalance()
    world.source.resume()
    fresh = next_window(world)
    assert texts(fresh)[0] == texts(stale)[0], "reading goes on at the committed offset"
    with pytest.raises(DeliveryFailed):
        world.delivery.deliver(stale, labelled(stale), [])
    world.source.rewind()
    seen: list[str] = []
    while len(seen) < 3:
        window = next_window(world)
        world.delivery.deliver(window, labelled(window), [])
        seen += texts(window)
    assert seen == ["a", "b", "c"]


def test_under_exactly_once_nothing_of_a_failed_delivery_is_ever_visible(world: World) -> None:
    if isinstance(world, Opened) and world.settings.delivery == "at-least-once":
        return  # at-least-once may repeat results under the same id; exactly-once may not
    world.add("a", "b", "c")
    stale = next_window(world)
    world.rebalance()
    world.source.resume()
    next_window(world)
    with pytest.raises(DeliveryFailed):
        world.delivery.deliver(stale, labelled(stale), [])
    assert world.visible() == []


def test_the_lag_counts_what_was_not_handed_out(world: World) -> None:
    world.add(*(f"text {n}" for n in range(9)))
    first = next_window(world)
    deadline = time.monotonic() + WAIT_SECONDS
    while sum(world.source.lag().values()) != 9 - len(first.records) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert sum(world.source.lag().values()) == 9 - len(first.records)


def test_closing_twice_is_fine(world: World) -> None:
    world.add("a")
    next_window(world)
    world.close()
    world.close()
