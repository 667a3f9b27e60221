"""The checker finds what goes wrong: each trap on the real broker, and every rule by itself.

Each scenario is also played with the worker's own source and delivery, which must come through it without a violation:
so what is caught is the broken part and not the scenario.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event
from typing import Any

import pytest
from kafka import KafkaConsumer

from deploy.local.broker import Broker
from protos.forms import Form
from tests.conftest import MakeTopics
from tests.faults import broken_delivery as broken
from tests.faults.checker import Answer, Expected, Input, Report, Topics, check_topics, judge
from tests.support.harness import lag, produce, wait_for
from worker.clock import SystemClock
from worker.errors import DeliveryFailed, SourceLost
from worker.kafka.answers import AnswerWriter
from worker.kafka.delivery import ExactlyOnce
from worker.kafka.drivers import DEFAULT, MAKERS, make_driver
from worker.kafka.source import KafkaSource, SourceOptions
from worker.kafka.topics import check_topics as check_that_topics_exist
from worker.records import Labelled, Window
from worker.settings import Settings
from worker.testing import RecordingEvents, running

SCORE = 0.9
POLL_INTERVAL_SECONDS = 6.5
WAIT_SECONDS = 40
LIMITS: dict[str, Any] = {
    "kafka_request_timeout_seconds": 3,
    "kafka_delivery_timeout_seconds": 4,
    "transaction_timeout_seconds": 5,
    "session_timeout_seconds": 6,
    "max_poll_interval_seconds": POLL_INTERVAL_SECONDS,
}


class Actor:
    """A worker without a model, played step by step by the test."""

    def __init__(
        self,
        topics: Topics,
        name: str,
        source: type[KafkaSource] = KafkaSource,
        delivery: type[ExactlyOnce] = ExactlyOnce,
        driver: str = DEFAULT,
    ) -> None:
        settings = Settings(
            bootstrap=topics.bootstrap,
            group=topics.group,
            input_topic=topics.reviews,
            output_topic=topics.labels,
            dead_letter_topic=topics.dead,
            **LIMITS,
        )
        events, clock, stop = RecordingEvents(), SystemClock(), Event()

        def wait(seconds: float) -> bool:
            return clock.wait(stop, seconds)

        kafka = make_driver(driver, settings, clock)
        self.consumer = kafka.open_consumer()
        partitions = check_that_topics_exist(kafka, self.consumer, settings)
        self.source = source(
            self.consumer,
            topics.reviews,
            SourceOptions(window_records=5),
            state=running(RecordingEvents()),
            events=events,
            clock=clock,
            wait=wait,
        )
        writer = AnswerWriter(
            output_topic=topics.labels,
            dead_letter_topic=topics.dead,
            partitions=partitions,
            form=Form.JSON,
            group=topics.group,
            worker=name,
            now_seconds=time.time,
            audit=True,
        )
        self.delivery = delivery(
            kafka,
            writer,
            topic_id=self.source.topic_id,
            transactional_id=f"{topics.group}.{name}",
            transaction_timeout_seconds=settings.transaction_timeout_seconds,
            events=events,
            clock=clock,
            wait=wait,
        )
        if isinstance(self.delivery, broken.LiveMetadata):
            self.delivery.consumer = self.consumer
        self.delivery.settle()

    def poll(self) -> Window | None:
        with suppress(SourceLost):
            return self.source.poll(0.3)
        return None

    def window(self) -> Window:
        """The next window."""
        found: list[Window] = []

        def there() -> bool:
            window = self.poll()
            if window is not None:
                found.append(window)
            return bool(found)

        wait_for(there, WAIT_SECONDS, "a window")
        return found[0]

    def deliver(self, window: Window) -> bool:
        """Whether it was delivered; if not, the source goes back."""
        answers = [Labelled(r, r.result_id, "positive", SCORE, "m", 1, 3, False) for r in window.records]
        try:
            self.delivery.deliver(window, answers, [])
        except DeliveryFailed:
            self.source.rewind()
            return False
        return True

    def work_off(self, topics: Topics) -> None:
        """Until nothing is left to do."""
        while lag(topics.bootstrap, topics.group, topics.reviews):
            window = self.poll()
            if window is not None:
                self.deliver(window)

    def close(self) -> None:
        self.delivery.close()
        self.source.close()


Hire = Callable[..., Actor]
Scenario = Callable[[Topics, Hire, dict[str, Any]], None]


def asleep_with_a_window(topics: Topics, hire: Hire, parts: dict[str, Any]) -> None:
    """A worker sleeps beyond the poll interval between poll and delivery, while another one takes over."""
    fill(topics, 10)
    sleeper = hire("sleeper", **parts)
    stale = sleeper.window()
    other = hire("other")
    other.work_off(topics)
    other.close()
    # The client leaves the group by itself once the interval has passed without a poll; the broker may be the first.
    wait_for(lambda: not sleeper.consumer.membership().joined, WAIT_SECONDS, "the client to leave")
    sleeper.deliver(stale)
    fill(topics, 10)
    sleeper.work_off(topics)


def asleep_between_windows(topics: Topics, hire: Hire, parts: dict[str, Any]) -> None:
    """A worker comes back from beyond the poll interval after another one has read on."""
    fill(topics, 10)
    sleeper = hire("sleeper", **parts)
    sleeper.deliver(sleeper.window())
    other = hire("other")
    other.work_off(topics)
    other.close()
    fill(topics, 10)
    sleeper.work_off(topics)


def a_partition_moves(topics: Topics, hire: Hire, parts: dict[str, Any]) -> None:
    """A delivery fails because a partition went to another worker, which ends before it has delivered anything."""
    fill(topics, 5, partition=0)
    fill(topics, 5, partition=1)
    first = hire("first", **parts)
    stale = [first.window(), first.window()]
    other = hire("other")
    first.source.pause()
    wait_for(lambda: other.poll() or first.poll() or len(first.consumer.assignment()) == 1, WAIT_SECONDS, "the move")
    for window in stale:
        first.deliver(window)
    first.source.resume()
    first.deliver(first.window())
    other.close()
    first.work_off(topics)


def undisturbed(topics: Topics, hire: Hire, parts: dict[str, Any]) -> None:
    """Nothing happens."""
    fill(topics, 20)
    hire("first", **parts).work_off(topics)


def fenced_once(topics: Topics, hire: Hire, parts: dict[str, Any]) -> None:
    """A delivery fails because the group has moved on, and the window is read again."""
    fill(topics, 10)
    first = hire("first", **parts)
    stale = first.window()
    other = KafkaConsumer(topics.reviews, bootstrap_servers=topics.bootstrap, group_id=topics.group)
    first.source.pause()
    wait_for(
        lambda: (other.poll(200), first.poll()) and other.group_metadata().generation_id >= 0, WAIT_SECONDS, "a join"
    )
    other.close()
    assert not first.deliver(stale)
    first.source.resume()
    first.work_off(topics)


TRAPS: list[tuple[Scenario, dict[str, Any], str]] = [
    (asleep_with_a_window, {"delivery": broken.LiveMetadata}, "duplicated"),
    (asleep_between_windows, {"source": broken.KeepsPositions}, "duplicated"),
    (a_partition_moves, {"delivery": broken.KeepsOffsets}, "lost"),
    (undisturbed, {"delivery": broken.IgnoresAcknowledgements}, "lost"),
    (undisturbed, {"delivery": broken.BelievesCommit}, "lost"),
    (fenced_once, {"delivery": broken.KeepsRecords}, "duplicated"),
]


@pytest.fixture
def place(broker: Broker, topics: MakeTopics) -> Topics:
    reviews, labels, dead = topics(partitions=2)
    return Topics(broker.bootstrap, f"group-of-{reviews}", reviews, labels, dead)


@pytest.fixture
def hire(place: Topics) -> Iterator[Hire]:
    hired: list[Actor] = []

    def make(name: str, **parts: Any) -> Actor:
        hired.append(Actor(place, name, **parts))
        return hired[-1]

    yield make
    for actor in hired:
        actor.close()


def fill(topics: Topics, count: int, partition: int = 0) -> None:
    produce(topics.bootstrap, topics.reviews, [f"review {n}" for n in range(count)], partition=partition)


def judged(topics: Topics) -> Report:
    return check_topics(topics, lambda _record: Expected(scores={1: SCORE}))


@pytest.mark.lasts(15)
@pytest.mark.parametrize(("scenario", "parts", "kind"), TRAPS, ids=[f"trap {n}" for n in range(1, 7)])
def test_each_trap_is_caught(place: Topics, hire: Hire, scenario: Scenario, parts: dict[str, Any], kind: str) -> None:
    scenario(place, hire, parts)
    report = judged(place)
    assert kind in report.violations, str(report)


@pytest.mark.lasts(15)
@pytest.mark.parametrize("driver", MAKERS)
@pytest.mark.parametrize(
    "scenario", list(dict.fromkeys(scenario for scenario, _, _ in TRAPS)), ids=lambda scenario: scenario.__name__
)
def test_the_workers_own_source_and_delivery_come_through(
    place: Topics, hire: Hire, scenario: Scenario, driver: str
) -> None:
    scenario(place, hire, {"driver": driver})
    report = judged(place)
    assert not report.violations, str(report)
    assert report.messages == report.results > 0


# --- the rules by themselves -----------------------------------------------------------------------------------------


def an_answer(offset: int, at: int, **told: Any) -> Answer:
    fields: dict[str, Any] = {"topic": "labels", "partition": 0, "digest": f"d{offset}", "score": SCORE, "version": 1}
    fields |= {"worker": "w", "generation": "1"} | told
    return Answer(**{"offset": at, "source": (0, offset), **fields})


def verdict(*answers: Answer, committed: int = 3) -> dict[str, int]:
    expected = [Expected(scores={1: SCORE}), Expected(scores={1: SCORE}), Expected(reasons=frozenset({"empty"}))]
    inputs = {(0, offset): Input(f"d{offset}", each) for offset, each in enumerate(expected)}
    return judge(inputs, answers, {0: committed}).violations


FIRST, SECOND = an_answer(0, 0), an_answer(1, 1)
LETTER = an_answer(2, 0, topic="dead", reason="empty")


def test_all_is_well() -> None:
    assert verdict(FIRST, SECOND, LETTER) == {}


@pytest.mark.parametrize(
    ("answers", "violations"),
    [
        ((FIRST, LETTER), {"lost": 1}),
        ((FIRST, SECOND, an_answer(1, 2), LETTER), {"duplicated": 1}),
        ((FIRST, SECOND, LETTER, an_answer(1, 1, topic="dead", reason="empty")), {"duplicated": 1, "wrong answer": 1}),
        ((an_answer(1, 0), an_answer(0, 1), LETTER), {"out of order": 1}),
        ((FIRST, SECOND, LETTER, an_answer(7, 2)), {"from nowhere": 1}),
        ((FIRST, an_answer(1, 1, digest="d0"), LETTER), {"wrong input": 1}),
        ((FIRST, an_answer(1, 1, score=SCORE + 2e-6), LETTER), {"wrong answer": 1}),
        ((FIRST, an_answer(1, 1, version=2), LETTER), {"wrong answer": 1}),
        ((FIRST, an_answer(1, 0, topic="dead", reason="crashes-model"), LETTER), {"wrong answer": 1}),
        ((FIRST, SECOND, an_answer(2, 2)), {"wrong answer": 1}),
        ((FIRST, SECOND, an_answer(2, 0, topic="dead", reason="too-large")), {"wrong answer": 1}),
    ],
)
def test_each_rule_is_held(answers: tuple[Answer, ...], violations: dict[str, int]) -> None:
    assert verdict(*answers) == violations


def test_what_is_not_committed_may_be_unanswered_but_not_answered() -> None:
    assert verdict(FIRST, SECOND, committed=2) == {"lag": 1}
    assert verdict(FIRST, SECOND, LETTER, committed=2) == {"from nowhere": 1, "lag": 1}


def test_order_is_kept_by_source_partition_and_not_across() -> None:
    inputs = {(p, o): Input("d", None) for p in (0, 1) for o in (0, 1)}
    answers = [
        an_answer(o, at, source=(p, o), digest="d") for at, (p, o) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)])
    ]
    assert judge(inputs, answers, {0: 2, 1: 2}).violations == {}
