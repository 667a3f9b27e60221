"""Where a consumer stands in its topic, and whether it is still the topic that its committed offsets are of."""

from __future__ import annotations

from collections.abc import Collection

from worker.errors import OffsetsLost
from worker.kafka.driver import Consumer
from worker.records import Partition


class Positions:
    """Sets a consumer's positions to the group's committed offsets, and knows for which partitions that was done.

    Each commit names the topic's id, so that offsets of a deleted topic are not used in one recreated with its name."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self.topic_id = consumer.topic_id(topic)
        """What goes with each committed offset; empty where the client does not know it."""
        self.placed: frozenset[Partition] = frozenset()
        """The partitions that were set to their committed offsets, and have been read from there since."""

    def forget(self) -> None:
        """The assignment has changed: no position counts until `place`."""
        self.placed = frozenset()

    def place(self) -> None:
        """Every assigned partition goes to its committed offset. Blocks for a few requests at most, whatever the number of
        partitions. Raises OffsetsLost, and the driver's failures: then nothing is placed that was not before."""
        positions = self._committed(self._consumer.assignment())
        self._consumer.seek(positions)
        self.placed = frozenset(positions)

    def check_topic(self) -> None:
        """Our positions mean nothing in another topic of the same name; without this they would be kept and used. Raises
        OffsetsLost."""
        now = self._consumer.topic_id(self._topic)
        if self.topic_id and now and now != self.topic_id:
            raise OffsetsLost(
                f"the topic {self._topic} was deleted and recreated while it was read. To read the new topic from its "
                "start, stop all workers and start one with --from earliest"
            )

    def reached(self, partition: Partition, end: int) -> bool:
        """Whether everything before `end` was handed out, or is nothing that is ever handed out."""
        return self._consumer.position(partition) >= end

    def out_of_range(self, error: BaseException) -> OffsetsLost:
        """The error of positions that the topic does not hold."""
        return OffsetsLost(
            f"the committed offsets are not in the topic {self._topic} any more ({error}): records were deleted "
            "before they were read, or the topic was recreated. To go on, stop all workers and start one with --from "
            "earliest, latest, a timestamp or offsets"
        )

    def unreadable(self, error: BaseException) -> OffsetsLost:
        """The error of a record that cannot be read: which one is not known, only where all partitions stand."""
        places = ", ".join(f"{p.partition}:{self._consumer.position(p)}" for p in sorted(self.placed))
        return OffsetsLost(
            f"a record of the topic {self._topic} cannot be read ({error}); it is the next one of one of the "
            f"partitions, which stand at {places}. If a restart does not help, go on after it: stop all workers and start "
            "one with --from and the offset after it"
        )

    def _committed(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The committed offset of each; the earliest there is for a partition that has none. At most one request to the
        group's coordinator and one to each leader."""
        committed = self._consumer.committed(partitions)
        for partition, at in committed.items():
            if at.metadata and self.topic_id and at.metadata != self.topic_id:
                raise OffsetsLost(
                    f"the topic {self._topic} was deleted and recreated since offset {at.offset} of partition "
                    f"{partition.partition} was committed. To read the new topic from its start, stop all workers and "
                    "start one with --from earliest"
                )
        positions = {partition: at.offset for partition, at in committed.items()}
        without = [partition for partition in partitions if partition not in positions]
        if without:
            positions |= self._consumer.beginning_offsets(without)
        return positions
