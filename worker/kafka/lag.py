"""How far a consumer is behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from worker.kafka.driver import Consumer, KafkaFailure
from worker.ports import Clock
from worker.records import Partition

LAG_SECONDS = 1.0
"""How often the lag is worked out again."""
ASK_SECONDS = 1.0
"""How long the brokers may take to tell where a partition ends."""


class KafkaLag:
    """The records that wait in each partition, from what fetches bring along; asked for where nothing is fetched."""

    def __init__(self, consumer: Consumer, clock: Clock) -> None:
        self._consumer = consumer
        self._clock = clock
        self._records: dict[Partition, int] = {}
        self._at = float("-inf")

    def reset(self) -> None:
        """The positions have changed: work it out again next time."""
        self._at = float("-inf")

    def of(self, partitions: Collection[Partition], *, fetching: bool, ask: bool) -> Mapping[Partition, int]:
        """Records by partition, at most `LAG_SECONDS` old. `fetching`: whether the client keeps itself informed; `ask`:
        whether the brokers may be asked otherwise, for at most `ASK_SECONDS`."""
        now = self._clock.monotonic()
        if now - self._at >= LAG_SECONDS:
            self._at = now
            ends = dict(self._consumer.known_ends(partitions))
            if ask and not (fetching and len(ends) == len(partitions)):
                ends |= self._asked_ends(partitions)
            self._records = {
                partition: max(0, end - self._consumer.position(partition)) for partition, end in ends.items()
            }
        return self._records

    def _asked_ends(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        try:
            return self._consumer.end_offsets(partitions, ASK_SECONDS)
        except KafkaFailure:
            return {}  # an outage is told of elsewhere; what is known will do until it is over
