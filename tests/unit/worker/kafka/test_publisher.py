"""What a window's publisher makes of a producer's refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka.future import Future

from worker.kafka.answers import Outgoing
from worker.kafka.delivery import Publisher

STOPPED = kafka_errors.KafkaError("Cannot perform send because at least one previous request has failed with errors.")


class ScriptedProducer:
    """For each record, by its key: an error to raise at once, one to fail with later, or None."""

    def __init__(self, raised: dict[bytes, Exception], failed: dict[bytes, Exception]) -> None:
        self._raised = raised
        self._failed = failed
        self.sent: list[bytes] = []

    def send(self, _topic: str, _value: bytes, *, key: bytes, **_more: Any) -> Any:
        if key in self._raised:
            raise self._raised[key]
        self.sent.append(key)
        future = Future()
        if key in self._failed:
            future.failure(self._failed[key])
        else:
            future.success(None)
        return future

    def flush(self, _timeout: float) -> None:
        """Everything is settled already."""


def publish(
    raised: dict[bytes, Exception], failed: dict[bytes, Exception]
) -> tuple[list[bytes], Callable[[], list[int]]]:
    producer = ScriptedProducer(raised, failed)
    outgoing = [Outgoing("dead", 0, key, b"", []) for key in (b"a", b"b", b"c")]
    return producer.sent, lambda: Publisher(producer, limit_seconds=1).publish(outgoing)  # type: ignore[arg-type]


def test_a_refusal_that_stops_the_client_while_others_are_being_sent_is_told_as_what_it_is() -> None:
    sent, run = publish({b"b": STOPPED}, {b"a": kafka_errors.MessageSizeTooLargeError()})
    assert run() == [0]
    assert sent == [b"a"], "nothing is offered to a producer that takes nothing any more"


def test_a_client_that_stopped_for_another_reason_has_failed() -> None:
    _, run = publish({b"b": STOPPED}, {})
    with pytest.raises(kafka_errors.KafkaError, match="Cannot perform send"):
        run()


def test_what_the_client_itself_finds_too_large_is_told_and_the_others_are_sent() -> None:
    sent, run = publish({b"b": kafka_errors.MessageSizeTooLargeError()}, {})
    assert run() == [1]
    assert sent == [b"a", b"c"]
