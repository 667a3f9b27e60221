"""The exactly-once delivery where Kafka does not answer."""

from __future__ import annotations

import time

import pytest
from kafka import errors as kafka_errors

from protos.forms import Form
from worker.kafka import delivery as kafka_delivery
from worker.kafka.answers import AnswerWriter
from worker.kafka.delivery import SETTLE_BACKOFF, ExactlyOnce
from worker.testing import RecordingEvents


def test_a_transaction_is_settled_after_an_outage_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 2_000  # past 1,024 a plain power of two is no float any more
    delays: list[float] = []

    def away(**_options: object) -> None:
        raise kafka_errors.NodeNotReadyError

    def pause(seconds: float) -> bool:
        delays.append(seconds)
        return len(delays) == tries

    monkeypatch.setattr(kafka_delivery, "KafkaProducer", away)
    writer = AnswerWriter(
        output_topic="labels",
        dead_letter_topic="dead",
        partitions={"labels": 1, "dead": 1},
        form=Form.JSON,
        group="g",
        worker="w",
        now_seconds=time.time,
        audit=False,
    )
    delivery = ExactlyOnce(
        {"delivery_timeout_ms": 1_000},
        writer,
        lambda _window: {},
        transactional_id="t",
        transaction_timeout_seconds=1,
        events=RecordingEvents(),
        pause=pause,
    )
    delivery.settle()
    assert len(delays) == tries
    assert max(delays) <= SETTLE_BACKOFF.max_delay_seconds
    assert min(delays[10:]) >= SETTLE_BACKOFF.max_delay_seconds / 2
