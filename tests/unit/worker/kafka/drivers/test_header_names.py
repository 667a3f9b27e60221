"""Records with any header name, written and read as the client does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from worker.kafka.drivers.kafka_python import header_names
from worker.kafka.drivers.kafka_python.header_names import read_any_header_name


class RawName(str):
    """A name whose bytes on the wire are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe" + super().encode()


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    read_any_header_name()
    yield
    DefaultRecordBatch._read_msg = header_names._strictly


def written(*records: tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=100_000,
    )
    for offset, (key, value, headers) in enumerate(records):
        builder.append(offset, 1_000 + offset, key, value, headers)
    return bytes(builder.build())


def test_bad_bytes_of_a_name_are_replaced_and_everything_else_is_as_sent() -> None:
    raw: list[tuple[str, bytes | None]] = [("good", b"1"), (RawName("odd"), b"\xff\xfeodd"), ("null", None)]
    batch = DefaultRecordBatch(written((b"a", b"1", []), (None, b"\xff\xfeodd", raw), (b"c", None, [("good", b"")])))
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch] == [
        (0, 1_000, b"a", b"1", []),
        (1, 1_001, None, b"\xff\xfeodd", [("good", b"1"), ("\ufffd\ufffdodd", b"\xff\xfeodd"), ("null", None)]),
        (2, 1_002, b"c", None, [("good", b"")]),
    ]


def test_canary_without_it_the_client_cannot_read_past_such_a_record() -> None:
    DefaultRecordBatch._read_msg = header_names._strictly
    with pytest.raises(CorruptRecordError):
        list(DefaultRecordBatch(written((b"a", b"1", [(RawName("odd"), b"1")]))))
