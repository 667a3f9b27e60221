"""The worker's topics: whether they are there, and creating them where that is allowed."""

from __future__ import annotations

from collections.abc import Mapping

from worker.errors import ConfigError
from worker.kafka.driver import Consumer, Driver, NewTopic
from worker.kafka.failures import at_start
from worker.records import Partition
from worker.settings import Settings

UNCOMPRESSED = {"compression.type": "uncompressed"}
"""Clients decompress without a cap. So brokers do it, which refuse what is larger than `max.message.bytes` then."""


def check_topics(driver: Driver, consumer: Consumer, settings: Settings) -> dict[str, int]:
    """The number of partitions of each of our topics, created first where allowed.

    Raises ConfigError when one is missing, KafkaUnavailable when the brokers do not answer."""
    topics = (settings.input_topic, settings.output_topic, settings.dead_letter_topic)
    counts = _partition_counts(consumer, topics)
    missing = [topic for topic in topics if topic not in counts]
    if missing and settings.create_topics:
        with at_start("creating topics"):
            driver.create_topics([_new(topic, settings) for topic in missing])
        counts = _partition_counts(consumer, topics)
        missing = [topic for topic in topics if topic not in counts]
    if missing:
        raise ConfigError(
            f"no such topic at {settings.bootstrap}: {', '.join(missing)}. Create it, or let the worker do it with "
            "--create-topics"
        )
    return dict(counts)


def partitions_of(topic: str, counts: Mapping[str, int]) -> list[Partition]:
    """All partitions of a topic."""
    return [Partition(topic, number) for number in range(counts[topic])]


def _partition_counts(consumer: Consumer, topics: tuple[str, ...]) -> Mapping[str, int]:
    with at_start("asking for the topics' partitions"):
        return consumer.partition_counts(topics)


def _new(topic: str, settings: Settings) -> NewTopic:
    configs = UNCOMPRESSED if topic == settings.input_topic else {}
    return NewTopic(topic, settings.create_partitions, settings.create_replication, configs)
