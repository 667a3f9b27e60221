"""How the client is told what to read, in both ways that group protocols have.

What is assigned to the member and what the client reads are two things: a rebalance gives the client nothing to read, and
`read` always says from where. So the client never looks for a position by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from confluent_kafka import Consumer, TopicPartition

from worker.records import Partition


class Assigning(Protocol):
    """The client's calls of one kind of rebalance. Each raises KafkaException. Within a rebalance the client waits for
    `take_none` or `give_back`; without one it would assign what the group gave it, from wherever it likes."""

    def take_none(self, client: Consumer) -> None:
        """The answer to partitions that a rebalance brings."""

    def give_back(self, client: Consumer, lost: Collection[Partition]) -> None:
        """The answer to partitions that a rebalance takes away; `lost` are those of them that the client reads."""

    def read(self, client: Consumer, was: Collection[Partition], offsets: Mapping[Partition, int]) -> None:
        """Reads `offsets`, and nothing else, from there. `was`: what it read before."""


class Eager:
    """Every rebalance takes everything away first. The client's own seek fails where it has no position yet, so everything
    is assigned anew."""

    def take_none(self, client: Consumer) -> None:
        """See Assigning."""
        client.assign([])

    def give_back(self, client: Consumer, lost: Collection[Partition]) -> None:  # noqa: ARG002  it is all there is
        """See Assigning."""
        client.unassign()

    def read(self, client: Consumer, was: Collection[Partition], offsets: Mapping[Partition, int]) -> None:  # noqa: ARG002
        """See Assigning."""
        client.assign(_from(offsets))


class Incremental:
    """A rebalance takes and gives single partitions (KIP-429, KIP-848), and the client refuses Eager's calls."""

    def take_none(self, client: Consumer) -> None:
        """See Assigning."""
        client.incremental_assign([])

    def give_back(self, client: Consumer, lost: Collection[Partition]) -> None:
        """See Assigning."""
        client.incremental_unassign(theirs(lost))

    def read(self, client: Consumer, was: Collection[Partition], offsets: Mapping[Partition, int]) -> None:
        """See Assigning."""
        client.incremental_unassign(theirs(was))
        client.incremental_assign(_from(offsets))


ASSIGNING: Mapping[str, type[Assigning]] = {"classic": Eager, "cooperative": Incremental, "consumer": Incremental}
"""By group protocol, as the setting names it."""


def theirs(partitions: Collection[Partition]) -> list[TopicPartition]:
    """The client's own form of them."""
    return [TopicPartition(*partition) for partition in partitions]


def _from(offsets: Mapping[Partition, int]) -> list[TopicPartition]:
    return [TopicPartition(*partition, offset) for partition, offset in sorted(offsets.items())]
