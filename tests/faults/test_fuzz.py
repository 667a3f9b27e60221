"""Malformed records: a hundred thousand through the decoder, a few thousand through the whole worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError
from kafka.record.default_records import DefaultRecordBatchBuilder

from tests.faults import fuzz
from tests.faults.checker import Report, Topics, check_topics
from tests.faults.reviews import Reviews
from tests.faults.world import World
from tests.support.harness import produce, review_json, wait_for, wait_for_lag_zero
from worker.kafka.drivers import MAKERS
from worker.records import Reason

NO_BRAKE = {"dead_letter_share": 1, "dead_letter_run": 0}
NULL = b"\x00 no value \x00"
BOMB_BYTES = 64 * 1024**2


class RawName(str):
    """A header's name whose bytes on the wire are not UTF-8, which Kafka's protocol does not forbid."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe" + super().encode()


@pytest.fixture
def raw_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the test's producer write headers without a value, which its `send` refuses: those that are NULL."""
    append = DefaultRecordBatchBuilder.append

    def with_nulls(self: Any, offset: int, timestamp: int, key: Any, value: Any, headers: Any) -> Any:
        headers = [(name, None if content == NULL else content) for name, content in headers]
        return append(self, offset, timestamp, key, value, headers)

    monkeypatch.setattr(DefaultRecordBatchBuilder, "append", with_nulls)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def judged(topics: Topics) -> Report:
    """Each record has one answer; which one is the decoder's affair."""
    wait_for_lag_zero(topics.bootstrap, topics.group, topics.reviews)
    report = check_topics(topics, lambda _record: None)
    assert not report.violations, f"{report}\n{report.shown}"
    return report


def test_a_hundred_thousand_records_through_the_decoder() -> None:
    outcomes = fuzz.run(seed=1, count=100_000)
    assert outcomes.total() == 100_000
    assert min(outcomes[outcome] for outcome in (fuzz.ANSWERED, *map(str, fuzz_reasons()))) > 1_000, outcomes


def fuzz_reasons() -> list[Reason]:
    """Those the decoder gives."""
    later = {Reason.REJECTED_BY_MODEL, Reason.CRASHES_MODEL, Reason.RESULT_TOO_LARGE}
    return [reason for reason in Reason if reason not in later]


@pytest.mark.lasts(20)
@pytest.mark.parametrize("kafka_client", MAKERS)
def test_a_few_thousand_records_through_the_whole_worker(
    world: World, closing: ExitStack, raw_headers: None, kafka_client: str
) -> None:
    topics = world.fresh_topics()
    settings = {"kafka_client": kafka_client, "max_review_bytes": fuzz.MAX_BYTES, "audit_headers": True}
    worker = closing.enter_context(world.worker(topics, "only", **settings, **NO_BRAKE).wait_ready())
    producer = KafkaProducer(bootstrap_servers=topics.bootstrap, linger_ms=20)
    for record in fuzz.records(seed=2, count=4_000):
        key = b"" if record.key is None and record.value is None else record.key
        headers = [(name, NULL if content is None else content) for name, content in record.headers]
        producer.send(topics.reviews, record.value, key=key, headers=headers or None)
    producer.send(topics.reviews, b"huge headers", headers=[(f"h{n}", b"x" * 900) for n in range(900)])
    producer.flush()
    producer.close()
    report = judged(topics)
    assert report.messages == 4_001
    assert worker.exit_code is None


@pytest.mark.parametrize(("kafka_client", "readable"), [("kafka-python", 1), ("librdkafka", 0)])
def test_a_header_name_that_is_not_utf8_stops_nothing(
    world: World, reviews: Reviews, closing: ExitStack, kafka_client: str, readable: int
) -> None:
    """librdkafka's Python binding gives out none of such a record's headers: it is not guessed what they said."""
    topics = world.fresh_topics(partitions=1)
    produce(topics.bootstrap, topics.reviews, map(review_json, reviews.texts[:20]))
    for value in (review_json(reviews.texts[20]), b"{"):
        produce(topics.bootstrap, topics.reviews, [value], headers=[(RawName("odd"), b"value")])
    produce(topics.bootstrap, topics.reviews, map(review_json, reviews.texts[20:40]))
    closing.enter_context(world.worker(topics, "only", kafka_client=kafka_client))
    report = judged(topics)
    assert (report.results, report.dead_letters) == (40 + readable, 2 - readable)


def test_a_compressed_bomb_is_a_dead_letter_and_a_setting_of_the_topic_keeps_it_out(
    world: World, reviews: Reviews, closing: ExitStack
) -> None:
    """The client decompresses a batch without a cap, so the worker holds it for a moment; 64 MiB of zeros here."""
    topics = world.fresh_topics(partitions=1)
    bomb = b"\x00" * BOMB_BYTES
    options: dict[str, Any] = {"compression_type": "gzip", "max_request_size": 2 * BOMB_BYTES}
    produce(topics.bootstrap, topics.reviews, [*map(review_json, reviews.texts[:10]), bomb], **options)
    worker = closing.enter_context(world.worker(topics, "only", **NO_BRAKE))
    wait_for(worker.ready, 60, "the worker")
    produce(topics.bootstrap, topics.reviews, map(review_json, reviews.texts[10:20]))
    report = judged(topics)
    assert (report.results, report.dead_letters) == (20, 1)
    world.configure(topics.reviews, compression_type="uncompressed")
    with pytest.raises(MessageSizeTooLargeError):
        produce(topics.bootstrap, topics.reviews, [bomb], **options)
