"""Both deliveries over brokers in memory: what a broker does seldom, and what must follow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.worker.kafka.test_answers import writer
from worker.errors import ConfigError, DeliveryFailed, Fenced, KafkaUnavailable
from worker.kafka.delivery import FENCED_LIMIT, SETTLE_BACKOFF, AtLeastOnce, ExactlyOnce, publish
from worker.kafka.driver import (
    Committed,
    FencedInstance,
    FencedProducer,
    KafkaFailure,
    NotSent,
    Refused,
    TooLarge,
    Unreachable,
)
from worker.kafka.testing import FakeKafka, FakeProducer
from worker.records import DeadLetter, Labelled, Membership, Partition, Reason, Record, Window
from worker.testing import RecordingEvents

TRANSACTION_SECONDS = 15.0
P0 = Partition("reviews", 0)


@pytest.fixture
def kafka() -> FakeKafka:
    return FakeKafka(reviews=3, labels=3, dead=2)


def exactly_once(kafka: FakeKafka, wait: Callable[[float], bool] = lambda _seconds: False) -> ExactlyOnce:
    events = RecordingEvents()
    return ExactlyOnce(
        kafka,
        writer(),
        topic_id="id",
        transactional_id="t",
        transaction_timeout_seconds=TRANSACTION_SECONDS,
        events=events,
        clock=kafka.clock,
        wait=wait,
    )


def a_window(offset: int = 0, generation: int = 1) -> Window:
    record = Record("reviews", 0, offset, 0, b"key", b"text")
    return Window([record], {P0: offset + 1}, Membership(generation, "member"))


def deliver(delivery: ExactlyOnce | AtLeastOnce, window: Window) -> None:
    delivery.deliver(window, [Labelled(r, r.result_id, "positive", 0.9, "m", 1, 3, False) for r in window.records], [])


def visible(kafka: FakeKafka) -> int:
    return sum(len(log) for partition, log in kafka.log.items() if partition.topic == "labels")


def test_a_window_is_one_transaction_and_its_offsets_name_the_topic_s_id(kafka: FakeKafka) -> None:
    delivery = exactly_once(kafka)
    deliver(delivery, a_window(0))
    deliver(delivery, a_window(1))
    assert kafka.committed == {P0: Committed(2, "id")}
    assert kafka.calls.count("open_producer") == 1
    assert kafka.calls[-4:] == ["begin", "send", "send_offsets", "commit"]


@pytest.mark.parametrize("step", ["begin", "send", "send_offsets", "commit"])
def test_whatever_step_fails_nothing_is_visible_and_what_was_in_doubt_is_settled_first(
    kafka: FakeKafka, step: str
) -> None:
    delivery = exactly_once(kafka)
    delivery.settle()
    kafka.failures[step] = [KafkaFailure("whatever")]
    kafka.calls.clear()
    with pytest.raises(DeliveryFailed, match="whatever"):
        deliver(delivery, a_window())
    assert kafka.calls[-1] == "open_producer"
    assert (visible(kafka), kafka.committed) == (0, {})
    deliver(delivery, a_window())
    assert (visible(kafka), kafka.committed) == (1, {P0: Committed(1, "id")})


def test_a_window_of_an_earlier_generation_is_fenced(kafka: FakeKafka) -> None:
    delivery = exactly_once(kafka)
    kafka.generation += 1
    with pytest.raises(DeliveryFailed, match="generation 1 is over"):
        deliver(delivery, a_window(generation=1))
    assert (visible(kafka), kafka.committed) == (0, {})


def test_after_a_commit_in_doubt_the_next_transaction_has_another_epoch(kafka: FakeKafka) -> None:
    delivery = exactly_once(kafka)
    deliver(delivery, a_window(0))
    kafka.in_doubt = True
    deliver(delivery, a_window(1))
    assert kafka.epochs["t"] == 1
    deliver(delivery, a_window(2))
    assert (kafka.epochs["t"], visible(kafka)) == (2, 3)


def fenced(kafka: FakeKafka, delivery: ExactlyOnce) -> None:
    kafka.failures["commit"] = [FencedProducer("epoch 0 is over")]
    deliver(delivery, a_window())


def test_fenced_again_and_again_is_another_process_with_our_id(kafka: FakeKafka) -> None:
    """Whatever was delivered between: the two take turns."""
    delivery = exactly_once(kafka)
    for _ in range(FENCED_LIMIT - 1):
        with pytest.raises(DeliveryFailed):
            fenced(kafka, delivery)
        deliver(delivery, a_window())
        kafka.clock.advance(TRANSACTION_SECONDS * 0.9)
    with pytest.raises(Fenced, match="--transactional-id"):
        fenced(kafka, delivery)


def test_a_worker_whose_transactions_run_out_of_time_is_fenced_and_alone(kafka: FakeKafka) -> None:
    delivery = exactly_once(kafka)
    for _ in range(2 * FENCED_LIMIT):
        with pytest.raises(DeliveryFailed):
            fenced(kafka, delivery)
        kafka.clock.advance(TRANSACTION_SECONDS)


def test_an_instance_that_was_replaced_ends_the_worker_at_once(kafka: FakeKafka) -> None:
    kafka.failures["send_offsets"] = [FencedInstance("replaced")]
    with pytest.raises(Fenced, match="--instance-id"):
        deliver(exactly_once(kafka), a_window())


def test_a_refusal_is_no_outage(kafka: FakeKafka) -> None:
    kafka.failures["send"] = [Refused("not authorized")]
    with pytest.raises(KafkaUnavailable, match="delivering to Kafka: not authorized"):
        deliver(exactly_once(kafka), a_window())
    kafka.failures["open_producer"] = [Refused("not authorized")]
    with pytest.raises(ConfigError, match="opening a transactional producer: not authorized"):
        exactly_once(kafka).settle()


def test_a_transaction_is_settled_after_an_outage_however_long(kafka: FakeKafka) -> None:
    tries = 2_000  # past 1,024 a plain power of two is no float any more
    delays: list[float] = []

    def wait(seconds: float) -> bool:
        delays.append(seconds)
        return len(delays) == tries

    kafka.away = True
    exactly_once(kafka, wait).settle()
    assert len(delays) == tries
    assert max(delays) <= SETTLE_BACKOFF.max_delay_seconds
    assert min(delays[10:]) >= SETTLE_BACKOFF.max_delay_seconds / 2


def test_at_least_once_commits_only_what_was_acknowledged(kafka: FakeKafka) -> None:
    committed: list[Window] = []
    delivery = AtLeastOnce(kafka, writer(), committed.append)
    kafka.failures["send"] = [Unreachable("no answer")]
    with pytest.raises(DeliveryFailed, match="no answer"):
        deliver(delivery, a_window())
    assert committed == []
    deliver(delivery, a_window())
    assert len(committed) == visible(kafka) == 1
    assert kafka.calls.count("open_producer") == 2, "a producer that failed is not used again"


@pytest.mark.parametrize("times", [1, 2])
def test_a_result_that_is_too_large_becomes_a_dead_letter(kafka: FakeKafka, times: int) -> None:
    kafka.max_bytes["labels"] = 10
    delivery = exactly_once(kafka)
    for offset in range(times):
        window = a_window(offset)
        results = [Labelled(r, r.result_id, "positive", 0.9, "m", 1, 3, False) for r in window.records]
        [letter] = delivery.deliver(window, results, [])
        assert (letter.record, letter.reason) == (window.records[0], Reason.RESULT_TOO_LARGE)
    assert (visible(kafka), kafka.committed) == (0, {P0: Committed(times, "id")})


# --- what a producer did not send ------------------------------------------------------------------------------------


class Refusing(FakeProducer):
    def __init__(self, *not_sent: NotSent) -> None:
        super().__init__(FakeKafka(), "")
        self._not_sent = not_sent

    def send(self, _outgoing: object) -> tuple[NotSent, ...]:
        return self._not_sent


def test_a_refusal_that_fails_others_in_other_words_is_told_as_what_it_is() -> None:
    refused = [NotSent(0, TooLarge("too large")), NotSent(1, KafkaFailure("cannot send after a failure"))]
    assert publish(Refusing(*refused), []) == [0]


def test_what_failed_for_another_reason_has_failed() -> None:
    with pytest.raises(KafkaFailure, match="cannot send"):
        publish(Refusing(NotSent(1, KafkaFailure("cannot send after a failure"))), [])


def test_dead_letters_and_results_are_visible_together(kafka: FakeKafka) -> None:
    first, second = Record("reviews", 0, 0, 0, None, b"good"), Record("reviews", 0, 1, 0, None, b"\xff")
    window = Window([first, second], {P0: 2}, Membership(1, "member"))
    result = Labelled(first, "", "positive", 0.9, "m", 1, 3, False)
    assert not exactly_once(kafka).deliver(window, [result], [DeadLetter(second, Reason.NOT_UTF8, "no")])
    assert visible(kafka) == len(kafka.log[Partition("dead", 0)]) == 1
