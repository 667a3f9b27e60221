"""Applies `start` and `until` to the topic and the group, before the group is joined.

`start` is written as committed offsets, once, while the group has no members: so it holds for whichever worker is given
a partition, and a partition that changes hands later goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from worker.errors import ConfigError, KafkaUnavailable
from worker.kafka.client import connection_options, partitions_of, translated
from worker.kafka.internals import topic_id
from worker.run_bounds import Edge, Start, Until
from worker.settings import Settings


def apply_start(consumer: KafkaConsumer, settings: Settings, start: Start) -> None:
    """Sets the group's offsets to `start`. COMMITTED changes nothing.

    Raises ConfigError when the group has members or an offset is out of range, KafkaUnavailable."""
    if start is Edge.COMMITTED:
        return
    topic = settings.input_topic
    with translated("working out where to start"):
        offsets = _start_offsets(consumer, partitions_of(consumer, topic), start)
        admin = KafkaAdminClient(**connection_options(settings))
        try:
            named = {tp: OffsetAndMetadata(offset, topic_id(consumer, topic), -1) for tp, offset in offsets.items()}
            outcome = admin.alter_group_offsets(settings.group, named)
        finally:
            admin.close()
    _check(outcome.values(), settings.group)


def _check(outcomes: Iterable[type[kafka_errors.KafkaError]], group: str) -> None:
    """Raises for the first offset that was not set."""
    for error in outcomes:
        if error is kafka_errors.NoError:
            continue
        if error.retriable:
            raise KafkaUnavailable(f"setting the offsets of group {group}: {error.__name__}")
        if error is kafka_errors.UnknownMemberIdError:
            raise ConfigError(
                f"the offsets of group {group} cannot be set: it still has members. Stop all of its workers and wait for "
                "the session timeout, or leave out --from"
            )
        raise ConfigError(f"the offsets of group {group} cannot be set: {error.__name__}")


def until_offsets(consumer: KafkaConsumer, settings: Settings, until: Until) -> dict[int, int] | None:
    """For each partition the offset a bounded run ends before; None for a run without an end. Raises KafkaUnavailable."""
    if until is None:
        return None
    partitions = partitions_of(consumer, settings.input_topic)
    with translated("working out where to end"):
        ends = consumer.end_offsets(partitions)
        if not isinstance(until, Edge):
            found = consumer.offsets_for_times(dict.fromkeys(partitions, until))
            ends |= {tp: at.offset for tp, at in found.items() if at is not None}
    return {tp.partition: offset for tp, offset in ends.items()}


def _start_offsets(
    consumer: KafkaConsumer, partitions: list[TopicPartition], start: Start
) -> dict[TopicPartition, int]:
    if start is Edge.EARLIEST:
        return dict(consumer.beginning_offsets(partitions))
    ends = consumer.end_offsets(partitions)
    if start is Edge.LATEST:
        return dict(ends)
    if isinstance(start, int):
        found = consumer.offsets_for_times(dict.fromkeys(partitions, start))
        return {tp: found[tp].offset if found.get(tp) is not None else ends[tp] for tp in partitions}
    beginnings = consumer.beginning_offsets(partitions)
    offsets = {TopicPartition(partitions[0].topic, number): offset for number, offset in dict(start).items()}  # type: ignore[arg-type]
    for tp, offset in offsets.items():
        if tp not in ends:
            raise ConfigError(
                f"start names partition {tp.partition}; the topic {tp.topic} has {len(partitions)}, from 0 on"
            )
        if not beginnings[tp] <= offset <= ends[tp]:
            raise ConfigError(
                f"start names offset {offset} of partition {tp.partition}; there are {beginnings[tp]} to {ends[tp]}"
            )
    return offsets
