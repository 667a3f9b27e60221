"""What the client hands out, in our terms: records, committed text, group metadata."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Message, TopicPartition

from worker.kafka.drivers.librdkafka.errors import ours
from worker.records import UNREADABLE_HEADERS, Record

METADATA_PREFIX = b"CGMDv2:"
TOPIC_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def place(token: bytes) -> tuple[int, str]:
    """Generation (KIP-848: the member's epoch) and member id in the client's group metadata: prefix, generation (int32,
    little-endian), group, NUL, member id, NUL, and the rest."""
    if not token.startswith(METADATA_PREFIX):
        raise RuntimeError(f"group metadata in an unknown form: {token[:16]!r}")
    start = len(METADATA_PREFIX) + 4
    _group, member, _rest = token[start:].split(b"\0", 2)
    return int.from_bytes(token[start - 4 : start], "little", signed=True), member.decode()


def record(topic: str, message: Message) -> Record:
    """The record that a message of `topic` is. Where a header's name is not UTF-8 the client gives out none of its headers:
    it raises, or it returns a list of NULLs with the error pending, which the next checked call raises. That is the call of
    Record, so both stand in one `try`. The client must not be asked again."""
    try:
        return Record(
            topic,
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            message.headers() or (),
        )
    except (UnicodeDecodeError, SystemError):
        known = topic, message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value()
        return Record(*known, UNREADABLE_HEADERS)


def text(committed: TopicPartition) -> str:
    """What was committed with an offset. The client loses the NUL that ends the text (librdkafka 2.16,
    rd_kafka_topic_partition_list_update), so its Python binding reads on to the next one in memory. Both drivers therefore
    commit a NUL with the text. Where another program has not, a topic's id is cut out; text that is not UTF-8 counts
    as none."""
    try:
        found = str(committed.metadata or "")
    except UnicodeDecodeError:
        return ""
    topic_id = TOPIC_ID.match(found)
    return topic_id[0] if topic_id else found


def check(partitions: Sequence[Any]) -> None:
    """Raises what went wrong with any of them."""
    for partition in partitions:
        if partition.error is not None:
            raise ours(partition.error)
