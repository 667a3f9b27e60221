"""Tests of kafka-python itself: where one fails, the client has been mended, and its driver can do with less.

Others stand beside the cure that they are about: test_header_names.py, and tests/integration/test_kafka_stalls.py and
test_kafka_membership.py on a real broker."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from kafka import KafkaProducer
from kafka.producer.transaction_manager import EndTxnHandler
from kafka.record.default_records import DefaultRecordBatchBuilder

from worker.kafka.delivery import HEADER_BYTES, RECORD_BYTES, size_bytes
from worker.kafka.driver import Outgoing

WITH_KIP_890 = 5
"""The version of EndTxn with which each transaction has an epoch of its own."""


@pytest.mark.parametrize(
    "call",
    [KafkaProducer.commit_transaction, KafkaProducer.abort_transaction, KafkaProducer.send_offsets_to_transaction],
)
def test_the_calls_of_a_transaction_take_no_timeout(call: Callable[..., object]) -> None:
    """`call_with_timeout` is there for them."""
    assert not {name for name in inspect.signature(call).parameters if "timeout" in name}


def test_the_client_speaks_the_protocol_from_before_kip_890() -> None:
    """Commits are told as DOUBTFUL for that."""
    identity = SimpleNamespace(producer_id=1, epoch=0)
    manager = SimpleNamespace(transactional_id="t", producer_id_and_epoch=identity, retry_backoff_ms=1)
    assert EndTxnHandler(manager, True).request._max_version < WITH_KIP_890


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (None, b"", []),
        (b"k" * 1_000, b"v" * 100_000, []),
        (b"k", b"v", [("", b"")] * 1_000),
        (b"", None, [("é" * 50, b"x" * 50)] * 100),
    ],
)
def test_the_policy_s_estimate_of_a_record_s_size_is_the_client_s(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    """No canary, but the same kind of promise: the largest record is told from the others by it."""
    theirs = DefaultRecordBatchBuilder.size_of(key, value, headers)
    assert abs(size_bytes(Outgoing("t", 0, key, value, headers)) - theirs) <= RECORD_BYTES + HEADER_BYTES * len(headers)
