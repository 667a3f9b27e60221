"""Answers that their topics refuse for their size, over a broker that is a table of limits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from protos.dead_letters import parse
from tests.unit.worker.kafka.test_answers import given_record, labelled, window, writer
from worker.errors import ConfigError
from worker.kafka.delivery import _Delivery, size_bytes
from worker.kafka.driver import Outgoing, TooLarge
from worker.kafka.testing import FakeKafka
from worker.records import DeadLetter, Headers, Reason, Record


class Scripted(_Delivery):
    """Blames every record of a window in which one is too large, as the client does."""

    def __init__(self, **limits_bytes: int) -> None:
        super().__init__(FakeKafka(), writer())
        self._limits_bytes = limits_bytes
        self.delivered: list[Outgoing] = []

    def _refused_alone(self, out: Outgoing) -> bool:
        return size_bytes(out) > self._limits_bytes[out.topic]

    def _attempt(self, window: object, outgoing: Sequence[Outgoing]) -> list[int]:
        if any(self._refused_alone(out) for out in outgoing):
            return self._too_large(outgoing, range(len(outgoing)))
        self.delivered = list(outgoing)
        return []


def unreadable(value: int = 1, key: int = 1, headers: Headers = ()) -> Record:
    return given_record(0, b"k" * key, b"\xff" * value, headers)


def deliver(delivery: Scripted, *records: Record) -> list[set[str]]:
    """What was cut of each record's dead letter."""
    letters = [DeadLetter(record, Reason.NOT_UTF8, "It is not UTF-8.") for record in records]
    assert not delivery.deliver(window(records[0]), [], letters)
    return [set(parse(out.headers).cut) for out in delivery.delivered]


def test_each_record_loses_what_is_large_in_it_and_the_others_nothing() -> None:
    records = [
        unreadable(value=5_000),
        unreadable(),
        unreadable(key=5_000),
        unreadable(headers=[("h", b"h" * 5_000)]),
        unreadable(headers=[("h" * 5_000, b"")]),
        unreadable(headers=[("", b"")] * 2_000),
        unreadable(5_000, 5_000, [("h", b"h" * 5_000)]),
    ]
    headers = {"headers"}
    expected = [{"value"}, set(), {"key"}, headers, headers, headers, {"value", "key", "headers"}]
    assert deliver(Scripted(dead=3_500), *records) == expected


def test_a_larger_record_of_a_topic_that_takes_more_is_not_the_culprit() -> None:
    large, review = unreadable(value=50_000), given_record()
    delivery = Scripted(dead=100_000, labels=100)
    letter = DeadLetter(large, Reason.NOT_UTF8, "It is not UTF-8.")
    [replaced] = delivery.deliver(window(large), [labelled(review)], [letter])
    assert (replaced.record, replaced.reason) == (review, Reason.RESULT_TOO_LARGE)
    assert [out.topic for out in delivery.delivered] == ["dead", "dead"]
    assert all(parse(out.headers).cut == {} for out in delivery.delivered)


def test_a_review_whose_key_is_too_large_for_its_result_and_its_dead_letter_loses_it() -> None:
    review = given_record(key=b"k" * 9_000)
    delivery = Scripted(dead=5_000, labels=5_000)
    [replaced] = delivery.deliver(window(review), [labelled(review)], [])
    [out] = delivery.delivered
    assert replaced.reason == Reason.RESULT_TOO_LARGE
    assert (out.key, out.value, set(parse(out.headers).cut)) == (b"", review.value, {"key"})


def test_a_topic_that_takes_no_dead_letter_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"the topic dead takes no dead letters.* max\.message\.bytes"):
        deliver(Scripted(dead=300), unreadable())


def test_a_batch_that_is_refused_although_each_record_fits_is_an_error_that_passes() -> None:
    delivery = Scripted(dead=10_000)
    with pytest.raises(TooLarge, match="none of its records"):
        delivery._too_large(
            [writer().dead_letter(window(unreadable()), DeadLetter(unreadable(), Reason.EMPTY, ""))], [0]
        )
