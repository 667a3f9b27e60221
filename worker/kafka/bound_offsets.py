"""Applies `start` and `until` to the topic and the group, before the group is joined.

`start` is written as committed offsets, once, while the group has no members: so it holds for whichever worker is given
a partition, and a partition that changes hands later goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worker.errors import ConfigError, KafkaUnavailable
from worker.kafka.driver import Consumer, Driver, GroupHasMembers, KafkaFailure, Refused
from worker.kafka.failures import at_start
from worker.records import Partition
from worker.run_bounds import Edge, Start, Until


def apply_start(
    driver: Driver, consumer: Consumer, partitions: Sequence[Partition], start: Start, *, group: str
) -> None:
    """Sets the group's offsets to `start`. COMMITTED changes nothing. `partitions` are all of the input topic.

    Raises ConfigError when the group has members or an offset is out of range, KafkaUnavailable."""
    if start is Edge.COMMITTED:
        return
    with at_start("working out where to start"):
        offsets = _start_offsets(consumer, partitions, start)
    topic_id = consumer.topic_id(partitions[0].topic)
    try:
        driver.set_group_offsets(offsets, topic_id)
    except GroupHasMembers as failure:
        raise ConfigError(
            f"the offsets of group {group} cannot be set: it still has members. Stop all of its workers and wait for "
            "the session timeout, or leave out --from"
        ) from failure
    except Refused as failure:
        raise ConfigError(f"the offsets of group {group} cannot be set: {failure}") from failure
    except KafkaFailure as failure:
        raise KafkaUnavailable(f"setting the offsets of group {group}: {failure}") from failure


def until_offsets(consumer: Consumer, partitions: Sequence[Partition], until: Until) -> dict[int, int] | None:
    """For each partition the offset a bounded run ends before; None for a run without an end. Nothing is read of a
    partition that is missing.

    Raises ConfigError when a partition named does not exist, KafkaUnavailable."""
    if until is None:
        return None
    if isinstance(until, Mapping):
        for number in until:
            if not number < len(partitions):
                raise ConfigError(f"until names partition {number}; {_partitions(partitions)}")
        return dict(until)
    with at_start("working out where to end"):
        ends = dict(consumer.end_offsets(partitions))
        if not isinstance(until, Edge):
            ends |= consumer.offsets_at(partitions, until)
    return {partition.partition: offset for partition, offset in ends.items()}


def _start_offsets(consumer: Consumer, partitions: Sequence[Partition], start: Start) -> Mapping[Partition, int]:
    if start is Edge.EARLIEST:
        return consumer.beginning_offsets(partitions)
    ends = consumer.end_offsets(partitions)
    if isinstance(start, Edge):
        return ends
    if isinstance(start, int):
        return {**ends, **consumer.offsets_at(partitions, start)}
    beginnings = consumer.beginning_offsets(partitions)
    offsets = {Partition(partitions[0].topic, number): offset for number, offset in start.items()}
    for partition, offset in offsets.items():
        if partition not in ends:
            raise ConfigError(f"start names partition {partition.partition}; {_partitions(partitions)}")
        if not beginnings[partition] <= offset <= ends[partition]:
            raise ConfigError(
                f"start names offset {offset} of partition {partition.partition}; there are {beginnings[partition]} to "
                f"{ends[partition]}"
            )
    return offsets


def _partitions(partitions: Sequence[Partition]) -> str:
    return f"the topic {partitions[0].topic} has {len(partitions)}, from 0 on"
