"""What the kafka-python driver makes of a client's refusals, and of a commit that is in doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka.future import Future
from kafka.producer.transaction_manager import AddOffsetsToTxnHandler, EndTxnHandler, TxnRequestHandler

from worker.kafka.driver import Commit, KafkaFailure, NotSent, Outgoing, TooLarge
from worker.kafka.drivers.kafka_python.producer import SLOW_CALL_SECONDS, KafkaPythonProducer
from worker.records import Membership
from worker.testing import ManualClock

STOPPED = kafka_errors.KafkaError("Cannot perform send because at least one previous request has failed with errors.")
OUTGOING = [Outgoing("dead", 0, key, b"", []) for key in (b"a", b"b", b"c")]


class ScriptedClient:
    """For each record, by its key: an error to raise at once, one to fail with later, or None."""

    def __init__(
        self, raised: dict[bytes, Exception] | None = None, failed: dict[bytes, Exception] | None = None
    ) -> None:
        self._raised = raised or {}
        self._failed = failed or {}
        self.sent: list[bytes] = []
        self.epoch = 0
        self.closed = 0
        self.committing: Callable[[], None] = lambda: None
        self._sender = SimpleNamespace(force_close=lambda: None)
        self._transaction_manager: Any = SimpleNamespace(_enqueue_request=lambda _handler: None)
        self._tell()

    def _tell(self) -> None:
        self._transaction_manager.producer_id_and_epoch = SimpleNamespace(producer_id=7, epoch=self.epoch)

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

    def begin_transaction(self) -> None: ...

    def send_offsets_to_transaction(self, _offsets: object, _metadata: object) -> None: ...

    def commit_transaction(self) -> None:
        self.committing()
        self._tell()

    def close(self, timeout: float) -> None:
        self.closed += 1


def a_producer(client: ScriptedClient, clock: ManualClock | None = None) -> KafkaPythonProducer:
    return KafkaPythonProducer(
        client, clock or ManualClock(), delivery_timeout_seconds=1, transaction_timeout_seconds=30
    )


def told(not_sent: Sequence[NotSent]) -> list[tuple[int, type[KafkaFailure]]]:
    return [(place, type(failure)) for place, failure in not_sent]


def test_a_refusal_that_stops_the_client_while_others_are_being_sent_is_told_as_what_it_is() -> None:
    client = ScriptedClient({b"b": STOPPED}, {b"a": kafka_errors.MessageSizeTooLargeError()})
    assert told(a_producer(client).send(OUTGOING)) == [(0, TooLarge), (1, KafkaFailure)]
    assert client.sent == [b"a"], "nothing is offered to a producer that takes nothing any more"


def test_what_the_client_itself_finds_too_large_is_told_and_the_others_are_sent() -> None:
    client = ScriptedClient({b"b": kafka_errors.MessageSizeTooLargeError()})
    assert told(a_producer(client).send(OUTGOING)) == [(1, TooLarge)]
    assert client.sent == [b"a", b"c"]


# --- the commit ------------------------------------------------------------------------------------------------------


def transaction(client: ScriptedClient, clock: ManualClock | None = None) -> Commit:
    producer = a_producer(client, clock)
    producer.begin()
    producer.send_offsets({}, "", Membership(1, "member"))
    return producer.commit()


def test_a_commit_without_doubt_is_certain() -> None:
    assert transaction(ScriptedClient()) is Commit.CERTAIN


def test_a_slow_commit_is_doubtful() -> None:
    clock, client = ManualClock(), ScriptedClient()
    client.committing = lambda: clock.advance(SLOW_CALL_SECONDS * 2)
    assert transaction(client, clock) is Commit.DOUBTFUL


@pytest.mark.parametrize(
    ("handler", "outcome"), [(EndTxnHandler, Commit.DOUBTFUL), (AddOffsetsToTxnHandler, Commit.CERTAIN)]
)
def test_a_commit_whose_requests_may_have_been_sent_twice_is_doubtful(
    handler: type[TxnRequestHandler], outcome: Commit
) -> None:
    client = ScriptedClient()
    request = handler.__new__(handler)
    request.reenqueue = lambda: None
    request._is_retry = False

    def send_twice() -> None:
        client._transaction_manager._enqueue_request(request)
        request.reenqueue()

    client.committing = send_twice
    assert transaction(client) is outcome


def test_a_commit_that_succeeds_under_another_epoch_has_failed() -> None:
    """The client has recovered by itself from an error, and the broker has aborted everything."""
    client = ScriptedClient()

    def bump() -> None:
        client.epoch += 1

    client.committing = bump
    with pytest.raises(KafkaFailure, match="epoch was bumped"):
        transaction(client)


def test_a_producer_is_discarded_once() -> None:
    client = ScriptedClient()
    producer = a_producer(client)
    producer.discard()
    producer.discard()
    assert client.closed == 1
