"""Lets the Kafka client read a header whose name is not UTF-8.

Kafka's protocol calls a header's name a string, and brokers store whatever bytes a producer sends. kafka-python 3.0.12
decodes them strictly (record/default_records.py, _read_msg): one such record makes poll() raise, and every poll() after
that spin for ever. Here the name's bad bytes become U+FFFD instead, and the record is handed out like any other.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from kafka.record.default_records import ControlRecord, DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

_strictly = DefaultRecordBatch._read_msg


def read_any_header_name() -> None:
    """For this process. Idempotent."""
    DefaultRecordBatch._read_msg = _leniently


@wraps(_strictly)
def _leniently(batch: Any) -> Any:
    try:
        return _strictly(batch)
    except UnicodeDecodeError:
        return _read(batch)  # the batch still stands at the record's beginning


def _read(batch: Any) -> Any:
    """One record: https://kafka.apache.org/documentation/#record."""
    buffer = batch._buffer
    length, position = decode_varint(buffer, batch._pos)
    end = position + length
    timestamp_delta, position = decode_varint(buffer, position + 1)  # after the attributes, which are unused
    offset_delta, position = decode_varint(buffer, position)
    key, position = _bytes(buffer, position)
    value, position = _bytes(buffer, position)
    count, position = decode_varint(buffer, position)
    headers = []
    for _ in range(count):
        name, position = _bytes(buffer, position)
        content, position = _bytes(buffer, position)
        headers.append(((name or b"").decode(errors="replace"), content))
    if position != end:
        raise ValueError(f"the record has {length} bytes, its fields end {position - end} bytes further on")
    batch._pos = position
    by_log = batch.timestamp_type == batch.LOG_APPEND_TIME
    timestamp = batch.max_timestamp if by_log else batch.first_timestamp + timestamp_delta
    kind = ControlRecord if batch.is_control_batch else DefaultRecord
    return kind(length, batch.base_offset + offset_delta, timestamp, batch.timestamp_type, key, value, headers)


def _bytes(buffer: Any, position: int) -> tuple[bytes | None, int]:
    length, position = decode_varint(buffer, position)
    if length < 0:
        return None, position
    return bytes(buffer[position : position + length]), position + length
