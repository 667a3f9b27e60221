"""The two Deliveries over a Kafka producer: in one transaction with the offsets, or acknowledged before the commit.

What both share is `Publisher`: it turns answers into records and checks every single acknowledgement, since a producer's
flush and even its commit can return although a record was given up. A producer that failed once is never used again:
records and offsets it still holds would come up in the next window.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any, NoReturn

from kafka import KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.structs import OffsetAndMetadata

from worker.backoff import Backoff
from worker.errors import ConfigError, DeliveryFailed, Fenced, KafkaUnavailable
from worker.kafka.answers import AnswerWriter, Outgoing, in_order
from worker.kafka.client import explain, is_fatal, replaced
from worker.kafka.internals import Resends, producer_identity, throw_away
from worker.kafka.timeouts import CallTimedOut, call_with_timeout
from worker.ports import Events
from worker.records import DeadLetter, Labelled, Reason, Window

TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
FENCED = (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)
FENCED_LIMIT = 3
"""Fenced deliveries in a row after which another live process is certain to use our transactional id: a worker that was
merely slow or asleep is fenced once."""
SLOW_CALL_SECONDS = 1.0
"""Offsets or a commit that took longer are taken for sent twice, whatever the client says."""
SETTLE_BACKOFF = Backoff(delay_seconds=0.2, max_delay_seconds=3.0)

Offsets = Callable[[Window], dict[TopicPartition, OffsetAndMetadata]]


class Publisher:
    """Sends a window's answers with one producer and knows which of them the broker took."""

    def __init__(self, producer: KafkaProducer, *, limit_seconds: float) -> None:
        self._producer = producer
        self._limit_seconds = limit_seconds

    def publish(self, outgoing: Sequence[Outgoing]) -> list[int]:
        """Sends everything and waits for every acknowledgement, at most the limit. Returns the indexes of those that were
        refused as too large, as far as it came; in a transaction the client also blames records that wait behind the one
        that is.

        Raises the client's errors for any other failure."""
        futures: list[tuple[int, Any]] = []
        too_large: list[int] = []
        stopped: kafka_errors.KafkaError | None = None
        for index, out in enumerate(outgoing):
            try:
                sent = self._producer.send(
                    out.topic,
                    out.value,
                    key=out.key,
                    headers=out.headers,
                    partition=out.partition,
                    timestamp_ms=out.timestamp_ms,
                )
            except TOO_LARGE:
                too_large.append(index)
            except kafka_errors.KafkaError as error:
                # A large record is a batch by itself and leaves at once: it can be refused while others are still being
                # sent, and then the client takes no more of them.
                stopped = error
                break
            else:
                futures.append((index, sent))
        failures = self._acknowledgements(futures)
        too_large += [index for index, error in failures if isinstance(error, TOO_LARGE)]
        # One refusal fails others in other words, too: what they say matters only where nothing is too large.
        if failures and not too_large:
            raise failures[0][1]
        if stopped is not None and not too_large:
            raise stopped
        return too_large

    def _acknowledgements(self, futures: Sequence[tuple[int, Any]]) -> list[tuple[int, BaseException]]:
        """Waits for all, and returns those that failed."""
        deadline = time.monotonic() + self._limit_seconds
        # flush() gives up on a batch that the broker found too large and that was split (kafka-python 3.0.12 raises
        # "Future not done"), although its halves are under way: each record's own future tells.
        with suppress(kafka_errors.UnknownError):
            self._producer.flush(self._limit_seconds)
        failures: list[tuple[int, BaseException]] = []
        for index, future in futures:
            try:
                if not future.is_done:
                    future.get(max(0.0, deadline - time.monotonic()))
                elif future.exception is not None:
                    failures.append((index, future.exception))
            except kafka_errors.KafkaError as error:
                failures.append((index, error))
        return failures


class _Delivery:
    """What both deliveries do alike: build answers, replace a failed producer, and cut what is too large."""

    def __init__(
        self, options: dict[str, Any], writer: AnswerWriter, *, events: Events, pause: Callable[[float], bool]
    ) -> None:
        self._options = options
        self._writer = writer
        self._events = events
        self._pause = pause
        self._limit_seconds = options["delivery_timeout_ms"] / 1000
        self._producer: KafkaProducer | None = None

    def deliver(
        self, window: Window, results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]
    ) -> Sequence[DeadLetter]:
        """See ports.Delivery."""
        answers = list(in_order(results, dead_letters))
        outgoing = list(self._writer.write(window, answers))
        replaced: list[DeadLetter] = []
        while too_large := self._attempt(window, outgoing):
            for index in too_large:
                answer, refused = answers[index], outgoing[index]
                if isinstance(answer, Labelled):
                    answers[index] = answer = self._in_place_of(answer)
                    replaced.append(answer)
                    outgoing[index] = self._writer.dead_letter(window, answer)
                else:
                    outgoing[index] = self._smaller(window, answer, refused)
        return replaced

    def close(self) -> None:
        """See ports.Delivery."""
        self._discard()

    def _attempt(self, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        raise NotImplementedError

    def _refused_alone(self, out: Outgoing) -> bool:
        """Whether the broker refuses this record as too large when nothing else is sent. Leaves no producer behind."""
        raise NotImplementedError

    def _open(self) -> KafkaProducer:
        raise NotImplementedError

    def _ready_producer(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = self._open()
        return self._producer

    def _too_large(self, outgoing: Sequence[Outgoing], suspects: Sequence[int]) -> list[int]:
        """The largest suspect of a topic, once the broker has refused it alone: the client blames its neighbours as well,
        and none of them may become a dead letter for that. Each topic has a limit of its own, so the largest suspect of
        all may be innocent."""
        by_size = sorted(suspects, key=lambda index: _size_bytes(outgoing[index]))
        largest_of_topic = {outgoing[index].topic: index for index in by_size}
        for index in sorted(largest_of_topic.values(), key=by_size.index, reverse=True):
            if self._refused_alone(outgoing[index]):
                return [index]
        raise kafka_errors.MessageSizeTooLargeError("a batch was refused, none of its records is too large by itself")

    def _in_place_of(self, result: Labelled) -> DeadLetter:
        detail = (
            f"the topic {self._writer.output_topic} does not take this review's result: raise its max.message.bytes"
        )
        return DeadLetter(result.record, Reason.RESULT_TOO_LARGE, detail, "deliver")

    def _smaller(self, window: Window, letter: DeadLetter, refused: Outgoing) -> Outgoing:
        """A dead letter that the broker may take. Raises ConfigError where the topic takes none at all: what is left then
        is of our own making and bounded, so no record can bring that about."""
        smaller = self._writer.smaller(window, letter, refused)
        if smaller is None:
            raise ConfigError(
                f"the topic {refused.topic} takes no dead letters: that of {letter.record.result_id} was refused as too "
                f"large, although nothing of the record is left in it ({_size_bytes(refused):,} bytes). Raise the topic's "
                "max.message.bytes, 1 MiB by default"
            )
        return smaller

    def _give_up(self, error: BaseException) -> NoReturn:
        """Throws the producer away and says what happened in the port's terms."""
        self._discard()
        if is_fatal(error):
            raise KafkaUnavailable(f"delivering to Kafka: {explain(error)}") from error
        raise DeliveryFailed(explain(error)) from error

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            throw_away(producer)


class AtLeastOnce(_Delivery):
    """Publishes, awaits every acknowledgement, then commits the offsets through the consumer."""

    def __init__(
        self,
        options: dict[str, Any],
        writer: AnswerWriter,
        commit: Callable[[Window], None],
        *,
        events: Events,
        pause: Callable[[float], bool],
    ) -> None:
        super().__init__(options, writer, events=events, pause=pause)
        self._commit = commit

    def _open(self) -> KafkaProducer:
        return KafkaProducer(**self._options)

    def _attempt(self, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        try:
            suspects = self._publish(outgoing)
            if suspects:
                return self._too_large(outgoing, suspects)
        except (kafka_errors.KafkaError, OSError) as error:
            self._give_up(error)
        self._commit(window)
        return []

    def _refused_alone(self, out: Outgoing) -> bool:
        refused = self._publish([out])
        self._discard()
        return bool(refused)

    def _publish(self, outgoing: Sequence[Outgoing]) -> list[int]:
        suspects = Publisher(self._ready_producer(), limit_seconds=self._limit_seconds).publish(outgoing)
        if suspects:
            # A refusal is fatal to an idempotent producer: whatever it is given afterwards fails in the same words.
            self._discard()
        return suspects


class ExactlyOnce(_Delivery):
    """One window is one transaction: results, dead letters and offsets become visible together or not at all.

    The offsets go with the group metadata as it stood at the poll, so that a worker whose partitions were given away is
    fenced (KIP-447). After any failure the producer is replaced, which settles what was in doubt, before DeliveryFailed
    tells the pipeline to read the committed offsets.

    It is also replaced after a success during which offsets or the commit may have been sent twice. The client speaks the
    protocol from before KIP-890, in which nothing ties a request to its transaction: the copy that the network held back
    could set the offsets of the next transaction back, or end it. The new producer's epoch makes the brokers refuse it."""

    def __init__(
        self,
        options: dict[str, Any],
        writer: AnswerWriter,
        offsets: Offsets,
        *,
        transactional_id: str,
        transaction_timeout_seconds: float,
        events: Events,
        pause: Callable[[float], bool],
    ) -> None:
        transactional = {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": int(transaction_timeout_seconds * 1000),
        }
        super().__init__(options | transactional, writer, events=events, pause=pause)
        self._offsets = offsets
        self._transactional_id = transactional_id
        self._transaction_seconds = transaction_timeout_seconds
        self._fenced = 0
        self._jitter = Random()  # noqa: S311  not for secrets
        self._resends: Resends | None = None
        """Watches the producer at hand."""

    def settle(self) -> None:
        """Ends whatever transaction an earlier process with our id left open. Blocks until Kafka has answered, waiting out
        an outage unless the worker stops. Raises Fenced or KafkaUnavailable."""
        attempt = 0
        while self._producer is None:
            try:
                self._producer = self._open()
            except (kafka_errors.KafkaError, OSError) as error:
                if is_fatal(error):
                    raise KafkaUnavailable(f"opening a transactional producer: {explain(error)}") from error
                attempt += 1
                delay = SETTLE_BACKOFF.after(attempt, self._jitter)
                self._events.retrying("deliver", type(error).__name__, attempt, delay, explain(error))
                if self._pause(delay):
                    return

    def _open(self) -> KafkaProducer:
        producer = KafkaProducer(**self._options)
        try:
            producer.init_transactions()
        except BaseException:
            throw_away(producer)
            raise
        self._resends = Resends(producer)
        return producer

    def _attempt(self, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        try:
            producer = self._ready_producer()
            too_large = self._transaction(producer, window, outgoing)
        except (kafka_errors.KafkaError, CallTimedOut, OSError) as error:
            self._count_fences(error, window)
            self._settle_and_give_up(error)
        self._fenced = 0
        return too_large

    def _transaction(self, producer: KafkaProducer, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        identity = producer_identity(producer)
        producer.begin_transaction()
        suspects = Publisher(producer, limit_seconds=self._limit_seconds).publish(outgoing)
        if suspects:
            # The batch that was refused has failed the transaction; the caller sends smaller answers in a new one.
            self._abort(producer)
            return self._too_large(outgoing, suspects)
        offsets = self._offsets(window)
        began = time.monotonic()
        call_with_timeout(
            self._transaction_seconds, lambda: producer.send_offsets_to_transaction(offsets, window.membership)
        )
        sent = time.monotonic()
        call_with_timeout(self._transaction_seconds, producer.commit_transaction)
        slowest_seconds = max(sent - began, time.monotonic() - sent)
        if producer_identity(producer) != identity:
            # The client recovered from an error by itself: the broker aborted the transaction, yet commit "succeeded".
            raise kafka_errors.TransactionAbortedError("the producer's epoch was bumped during the commit")
        if self._doubtful(slowest_seconds):
            self._discard()
        return []

    def _doubtful(self, slowest_seconds: float) -> bool:
        """Whether a request of the transaction that has just been committed may still be under way."""
        resent = self._resends is not None and self._resends.seen
        return resent or slowest_seconds > SLOW_CALL_SECONDS

    def _refused_alone(self, out: Outgoing) -> bool:
        producer = self._ready_producer()
        producer.begin_transaction()
        refused = Publisher(producer, limit_seconds=self._limit_seconds).publish([out])
        self._abort(producer)
        return bool(refused)

    def _abort(self, producer: KafkaProducer) -> None:
        call_with_timeout(self._transaction_seconds, producer.abort_transaction)
        self._discard()

    def _count_fences(self, error: BaseException, window: Window) -> None:
        if isinstance(error, kafka_errors.FencedInstanceIdError):
            self._discard()
            raise replaced(window.membership.group_instance_id) from error
        self._fenced = self._fenced + 1 if isinstance(error, FENCED) else 0
        if self._fenced >= FENCED_LIMIT:
            self._discard()
            raise Fenced(
                f"another live process uses the transactional id {self._transactional_id!r}: give each worker its own with "
                "--transactional-id"
            ) from error

    def _settle_and_give_up(self, error: BaseException) -> NoReturn:
        self._discard()
        if is_fatal(error):
            self._give_up(error)
        self.settle()
        raise DeliveryFailed(explain(error)) from error


def _size_bytes(out: Outgoing) -> int:
    """What a record takes in a batch: a thousand empty headers are a size, too."""
    return int(DefaultRecordBatchBuilder.size_of(out.key, out.value, out.headers))
