"""Whether a candidate really answered: one result for each review, and the label that every other candidate gives."""

from __future__ import annotations

import msgspec
from kafka import KafkaConsumer, TopicPartition

from protos.codecs import decode_result
from protos.forms import CodecError
from protos.model_card import THRESHOLD
from tests.support.harness import iter_committed

TOLERANCE = 1e-4
"""By so much may scores differ: loops pad otherwise, and a sum of floats depends on its order."""
TAIL = 20
"""Offsets at a partition's end among which there is a record, beside the markers of transactions."""


class Answer(msgspec.Struct, frozen=True):
    """As much of a result as every candidate writes."""

    label: str
    score: float


def read_answers(bootstrap: str, topic: str) -> list[tuple[bytes, Answer]]:
    """Key and answer of every committed record in the topic."""
    return [(record.key or b"", _answer(record.value or b"")) for record in iter_committed(bootstrap, topic)]


def last_written_seconds(bootstrap: str, topic: str) -> float:
    """When the topic's newest committed record was made, in seconds since the epoch."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", metrics_enabled=False)
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        ends, begins = consumer.end_offsets(partitions), consumer.beginning_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, max(begins[partition], ends[partition] - TAIL))
        newest_ms = 0
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for records in consumer.poll(500).values():
                newest_ms = max(newest_ms, *(record.timestamp for record in records))
        return newest_ms / 1000
    finally:
        consumer.close()


def check(name: str, answers: list[tuple[bytes, Answer]], reviews: int, known: dict[bytes, Answer]) -> None:
    """Raises SystemExit where a review has no answer, or two, or another one than in `known`, which it adds to."""
    keys = {key for key, _ in answers}
    if len(answers) != reviews or len(keys) != reviews:
        raise SystemExit(f"{name}: {len(answers):,} answers to {len(keys):,} of {reviews:,} reviews")
    for key, answer in answers:
        expected = known.setdefault(key, answer)
        near = abs(answer.score - expected.score) <= TOLERANCE
        same = answer.label == expected.label or abs(expected.score - THRESHOLD) <= TOLERANCE
        if not (near and same):
            raise SystemExit(f"{name}: review {key.decode()} got {answer}, others gave {expected}")


def _answer(value: bytes) -> Answer:
    try:
        result = decode_result(value)
    except CodecError:  # the loops write label and score alone
        return msgspec.json.decode(value, type=Answer)
    return Answer(result.label, result.score)
