"""Reads a topic from stated offsets to a stated end, committed records only, outside any consumer group's assignment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from producer.connection import Connection
from producer.errors import Unavailable
from producer.interruption import Interruption
from worker.records import Record

Offsets = dict[int, int]
"""An offset for each partition of the topic."""

POLL_SECONDS = 0.2
SILENCE_SECONDS = 30
"""A read towards a known end that brings nothing for this long has lost its broker."""
COMMIT_SECONDS = 15
_POLL_RECORDS = 2_000


class TopicReader:
    """One topic's records. A context manager; one thread.

    `earliest` and `end` are snapshots taken when it was made: a record that comes later is at or after `end`. With
    `group` it can read and commit that consumer group's offsets, without becoming a member."""

    def __init__(self, connection: Connection, topic: str, *, group: str | None = None) -> None:
        self.topic = topic
        self._consumer = connection.consumer(group_id=group, max_poll_records=_POLL_RECORDS, metrics_enabled=False)
        try:
            self.partitions = [TopicPartition(topic, number) for number in connection.partitions(topic)]
            self.earliest = self._numbers(self._consumer.beginning_offsets(self.partitions))
            # For a reader of committed records the end is the last stable offset: open transactions are beyond it.
            self.end = self._numbers(self._consumer.end_offsets(self.partitions))
        except KafkaError as error:
            self.close()
            raise Unavailable(f"Kafka would not say where topic “{topic}” begins and ends: {error}.") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the client. Idempotent."""
        self._consumer.close(autocommit=False)

    def committed(self) -> dict[int, tuple[int, str]]:
        """The group's committed offset and its metadata text, for the partitions that have one."""
        found = {tp.partition: self._consumer.committed(tp, metadata=True) for tp in self.partitions}
        return {
            number: (commit.offset, commit.metadata or "") for number, commit in found.items() if commit is not None
        }

    def commit(self, offsets: Mapping[int, tuple[int, str]]) -> None:
        """Commits an offset and a metadata text for each partition given. Blocks; raises Unavailable."""
        commits = {TopicPartition(self.topic, number): OffsetAndMetadata(*at, -1) for number, at in offsets.items()}
        try:
            self._consumer.commit(commits, timeout_ms=COMMIT_SECONDS * 1000)
        except KafkaError as error:
            raise Unavailable(f"Kafka did not take the commit of topic “{self.topic}”: {error}.") from error

    def at_time(self, timestamp_ms: int) -> Offsets:
        """The first offset of each partition whose record is not older than `timestamp_ms`; the end where none is."""
        found = self._consumer.offsets_for_times(dict.fromkeys(self.partitions, max(0, timestamp_ms)))
        return {tp.partition: at.offset if at is not None else self.end[tp.partition] for tp, at in found.items()}

    def read(
        self,
        start: Mapping[int, int],
        end: Mapping[int, int] | None = None,
        *,
        deadline: float | None = None,
        interruption: Interruption | None = None,
    ) -> Iterator[list[Record]]:
        """Batches of records from `start` (partitions that are missing there are not read) up to `end`, or for ever.

        An empty batch comes whenever nothing arrived for a moment, so that the caller can look around. It ends at
        `deadline` on the monotonic clock. Records of one partition come in order. Raises Unavailable when Kafka falls
        silent before `end`, KeyboardInterrupt when interrupted."""
        allowed = (interruption or Interruption()).allowed
        todo = {TopicPartition(self.topic, number) for number in start if end is None or start[number] < end[number]}
        if not todo:
            return
        self._consumer.assign(sorted(todo))
        for tp in todo:
            self._consumer.seek(tp, start[tp.partition])
        heard = time.monotonic()
        while todo and (deadline is None or time.monotonic() < deadline):
            with allowed:
                polled = self._consumer.poll(timeout_ms=round(POLL_SECONDS * 1000))
            records = [_record(found) for batch in polled.values() for found in batch]
            if end is not None:
                records = [record for record in records if record.offset < end[record.partition]]
                done = {tp for tp in todo if (self._consumer.position(tp) or 0) >= end[tp.partition]}
                todo -= done
                self._consumer.pause(*done)
                if records or done:
                    heard = time.monotonic()
                elif time.monotonic() - heard > SILENCE_SECONDS:
                    raise Unavailable(f"Kafka sent nothing of topic “{self.topic}” for {SILENCE_SECONDS} seconds.")
            yield records

    @staticmethod
    def _numbers(offsets: Mapping[TopicPartition, int]) -> Offsets:
        return {tp.partition: offset for tp, offset in offsets.items()}


def _record(found: Any) -> Record:
    return Record(
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        timestamp_ms=found.timestamp,
        key=found.key,
        value=found.value,
        headers=found.headers,
    )
