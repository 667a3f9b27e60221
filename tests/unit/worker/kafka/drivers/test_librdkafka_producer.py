"""What the librdkafka driver makes of a client's refusals, and of a commit that is in doubt."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from worker.kafka.driver import Commit, FencedProducer, KafkaFailure, Outgoing, TooLarge, Unreachable
from worker.kafka.drivers.librdkafka import producer as producer_module
from worker.kafka.drivers.librdkafka.errors import Heard
from worker.kafka.drivers.librdkafka.producer import (
    BATCH_BYTES,
    SLOW_CALL_SECONDS,
    SMALLEST_BATCH_BYTES,
    BatchSize,
    LibrdkafkaProducer,
)
from worker.records import Membership
from worker.testing import ManualClock


class ScriptedClient:
    """For each record, by its key: an error code to raise at once, or to fail with in the flush."""

    def __init__(self, raised: dict[bytes, int] | None = None, failed: dict[bytes, int] | None = None) -> None:
        self._raised = raised or {}
        self._failed = failed or {}
        self.sent: list[bytes] = []
        self.headers: list[Any] = []
        self.left = 0
        """What a flush leaves."""
        self.flushes = 0
        self.purged = 0
        self.committing: Callable[[], None] = lambda: None
        self._reports: list[Callable[[], None]] = []

    def produce(self, *given: Any) -> None:
        _topic, _value, key, _partition, on_delivery, _alias, _timestamp, headers = given
        if key in self._raised:
            raise KafkaException(KafkaError(self._raised[key]))
        self.sent.append(key)
        self.headers.append(headers)
        if key in self._failed:
            self._reports.append(lambda: on_delivery(KafkaError(self._failed[key]), None))

    def flush(self, _timeout: float) -> int:
        self.flushes += 1
        reports, self._reports = self._reports, []
        for report in reports:
            report()
        return self.left

    def begin_transaction(self) -> None: ...

    def send_offsets_to_transaction(self, _offsets: object, _metadata: object, _timeout: float) -> None: ...

    def commit_transaction(self, _timeout: float) -> None:
        self.committing()

    def purge(self) -> None:
        self.purged += 1


def a_producer(
    client: ScriptedClient,
    clock: ManualClock | None = None,
    *,
    heard: Heard | None = None,
    batch_size: BatchSize | None = None,
    transaction_timeout_seconds: float = 30,
) -> LibrdkafkaProducer:
    return LibrdkafkaProducer(
        client,
        clock or ManualClock(),
        heard=heard or Heard(),
        batch_size=batch_size or BatchSize(),
        delivery_timeout_seconds=1,
        transaction_timeout_seconds=transaction_timeout_seconds,
    )


def outgoing(*keys: bytes, value: bytes = b"") -> list[Outgoing]:
    return [Outgoing("dead", 0, key, value, []) for key in keys]


def told(producer: LibrdkafkaProducer, out: list[Outgoing]) -> list[tuple[int, type[KafkaFailure]]]:
    return [(place, type(failure)) for place, failure in producer.send(out)]


def test_what_the_client_itself_finds_too_large_is_told_and_the_others_are_sent() -> None:
    client = ScriptedClient({b"b": KafkaError.MSG_SIZE_TOO_LARGE})
    assert told(a_producer(client), outgoing(b"a", b"b", b"c")) == [(1, TooLarge)]
    assert client.sent == [b"a", b"c"]


def test_nothing_is_offered_to_a_client_that_takes_nothing_any_more() -> None:
    client = ScriptedClient({b"b": KafkaError._STATE})
    assert told(a_producer(client), outgoing(b"a", b"b", b"c")) == [(1, KafkaFailure)]
    assert client.sent == [b"a"]


def test_once_a_record_has_failed_the_others_are_not_waited_for() -> None:
    client = ScriptedClient(failed={b"b": KafkaError._MSG_TIMED_OUT})
    client.left = 1
    assert told(a_producer(client), outgoing(b"a", b"b")) == [(1, Unreachable)]
    assert client.flushes == 1


def test_acknowledgements_are_waited_for_until_the_time_is_up() -> None:
    client, clock = ScriptedClient(), ManualClock()
    client.left = 1
    flush = client.flush

    def slow(timeout: float) -> int:
        clock.advance(timeout)
        return flush(timeout)

    client.flush = slow  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        a_producer(client, clock).send(outgoing(b"a"))
    assert clock.monotonic() >= 1


@pytest.mark.parametrize(("value_bytes", "next_bytes"), [(100, BATCH_BYTES // 2), (BATCH_BYTES + 1, BATCH_BYTES)])
def test_batches_become_smaller_where_the_refused_one_may_have_held_several_records(
    value_bytes: int, next_bytes: int
) -> None:
    """The client never splits a batch: the next producer must not build the same one."""
    size = BatchSize()
    client = ScriptedClient(failed=dict.fromkeys((b"a", b"b"), KafkaError.MSG_SIZE_TOO_LARGE))
    producer = a_producer(client, batch_size=size)
    assert told(producer, outgoing(b"a", b"b", value=b"x" * value_bytes)) == [(0, TooLarge), (1, TooLarge)]
    assert size.bytes == next_bytes


@pytest.mark.parametrize(
    ("limits", "bytes_"), [([], BATCH_BYTES), ([1_048_588, 100_000], 90_000), ([10], SMALLEST_BATCH_BYTES)]
)
def test_batches_are_no_larger_than_topics_take_where_they_tell(limits: list[int], bytes_: int) -> None:
    size = BatchSize()
    size.limit(limits)
    assert (size.bytes, size.limited) == (bytes_, True)


def test_a_surrogate_in_a_header_s_name_does_not_reach_the_client() -> None:
    """It would end the process."""
    client = ScriptedClient()
    headers = [("plain", b"1"), ("gr\u00f6\u00dfe", b"2"), ("odd\udcff", b"3")]
    a_producer(client).send([Outgoing("dead", 0, None, b"", headers)])
    assert client.headers == [[("plain", b"1"), ("gr\u00f6\u00dfe", b"2"), ("odd?", b"3")]]


def test_a_fatal_error_is_what_the_client_said_it_was() -> None:
    heard = Heard()
    heard(KafkaError(KafkaError._FENCED, fatal=True))
    client = ScriptedClient({b"a": KafkaError._FATAL})
    assert told(a_producer(client, heard=heard), outgoing(b"a")) == [(0, FencedProducer)]


# --- the commit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "outcome"), [(SLOW_CALL_SECONDS / 2, Commit.CERTAIN), (SLOW_CALL_SECONDS * 1.1, Commit.DOUBTFUL)]
)
def test_a_slow_commit_may_have_been_sent_twice(seconds: float, outcome: Commit) -> None:
    client, clock = ScriptedClient(), ManualClock()
    client.committing = lambda: clock.advance(seconds)
    producer = a_producer(client, clock)
    for _ in range(2):
        producer.begin()
        producer.send_offsets({}, "", Membership(1, "member"))
        assert producer.commit() is outcome


def test_slow_offsets_put_the_commit_in_doubt_and_not_the_next_one() -> None:
    client, clock = ScriptedClient(), ManualClock()
    producer = a_producer(client, clock)
    producer.begin()
    client.send_offsets_to_transaction = lambda *_: clock.advance(SLOW_CALL_SECONDS * 1.1)  # type: ignore[method-assign]
    producer.send_offsets({}, "", Membership(1, "member"))
    assert producer.commit() is Commit.DOUBTFUL
    producer.begin()
    assert producer.commit() is Commit.CERTAIN


def test_offsets_that_the_client_never_gets_rid_of_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the group's coordinator without a limit, whatever limit it is given."""
    monkeypatch.setattr(producer_module, "GRACE_SECONDS", 0.0)
    client, end = ScriptedClient(), Event()
    client.send_offsets_to_transaction = lambda *_: end.wait()  # type: ignore[method-assign]
    producer = a_producer(client, transaction_timeout_seconds=0.05)
    producer.begin()
    with pytest.raises(Unreachable):
        producer.send_offsets({}, "", Membership(1, "member"))
    producer.discard()
    end.set()


def test_a_commit_that_fails_raises() -> None:
    client = ScriptedClient()

    def fail() -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, retriable=True))

    client.committing = fail
    with pytest.raises(Unreachable):
        a_producer(client).commit()


def test_a_discarded_client_holds_nothing_and_is_gone() -> None:
    client = ScriptedClient()
    gone = weakref.ref(client)
    producer = a_producer(client)
    producer.discard()
    producer.discard()
    assert client.purged == 1
    del client
    assert gone() is None
    with pytest.raises(KafkaFailure):
        producer.begin()
