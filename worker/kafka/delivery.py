"""The two Deliveries over a Kafka producer: in one transaction with the offsets, or acknowledged before the commit.

A producer that failed once is never used again: records and offsets it still holds would come up in the next window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import NoReturn

from worker.backoff import Backoff
from worker.errors import ConfigError, DeliveryFailed, Fenced, KafkaUnavailable
from worker.kafka.answers import AnswerWriter, OutgoingLetter, in_order
from worker.kafka.driver import (
    Commit,
    Driver,
    FencedInstance,
    FencedProducer,
    KafkaFailure,
    Outgoing,
    Producer,
    Refused,
    TooLarge,
)
from worker.kafka.failures import at_start, replaced
from worker.ports import Clock, Events
from worker.records import DeadLetter, Labelled, Reason, Record, Retry, Window

FENCED_LIMIT = 3
"""Fenced deliveries within two transaction timeouts after which another live process is certain to use our transactional id.
A worker that is slow or asleep is fenced as well, by the end of its transaction's time: never three times in less than that.
Deliveries that succeed between them tell nothing: two processes with one id take turns."""
OPENING = "opening a transactional producer"
RECORD_BYTES, HEADER_BYTES = 20, 2
"""What a record and a header take beside their contents: lengths and deltas, as varints."""
SETTLE_BACKOFF = Backoff(delay_seconds=0.2, max_delay_seconds=3.0)


class _Delivery:
    """What both deliveries do alike: build answers, replace a failed producer, and cut what is too large."""

    def __init__(self, driver: Driver, writer: AnswerWriter) -> None:
        self._driver = driver
        self._writer = writer
        self._producer: Producer | None = None

    def deliver(
        self, window: Window, results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]
    ) -> Sequence[DeadLetter]:
        """See ports.Delivery."""
        answers = in_order(results, dead_letters)
        outgoing = self._writer.write(window, answers)
        replaced: list[DeadLetter] = []
        while too_large := self._attempt(window, outgoing):
            for index in too_large:
                refused = outgoing[index]
                if isinstance(refused, OutgoingLetter):
                    outgoing[index] = self._smaller(window, refused)
                else:
                    letter = self._in_place_of(answers[index].record)
                    replaced.append(letter)
                    outgoing[index] = self._writer.dead_letter(window, letter)
        return replaced

    def close(self) -> None:
        """See ports.Delivery."""
        self._discard()

    def _attempt(self, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        raise NotImplementedError

    def _refused_alone(self, out: Outgoing) -> bool:
        """Whether the broker refuses this record as too large when nothing else is sent. Leaves no producer behind."""
        raise NotImplementedError

    def _open(self) -> Producer:
        raise NotImplementedError

    def _ready_producer(self) -> Producer:
        if self._producer is None:
            self._producer = self._open()
        return self._producer

    def _too_large(self, outgoing: Sequence[Outgoing], suspects: Sequence[int]) -> list[int]:
        """The largest suspect of a topic, once the broker has refused it alone: the client blames its neighbours as well,
        and none of them may become a dead letter for that. Each topic has a limit of its own, so the largest suspect of
        all may be innocent."""
        by_size = sorted(suspects, key=lambda index: size_bytes(outgoing[index]))
        largest_of_topic = {outgoing[index].topic: index for index in by_size}
        for index in sorted(largest_of_topic.values(), key=by_size.index, reverse=True):
            if self._refused_alone(outgoing[index]):
                return [index]
        raise TooLarge("a batch was refused, none of its records is too large by itself")

    def _in_place_of(self, record: Record) -> DeadLetter:
        detail = (
            f"the topic {self._writer.output_topic} does not take this review's result: raise its max.message.bytes"
        )
        return DeadLetter(record, Reason.RESULT_TOO_LARGE, detail, "deliver")

    def _smaller(self, window: Window, refused: OutgoingLetter) -> OutgoingLetter:
        """A dead letter that the broker may take. Raises ConfigError where the topic takes none at all: what is left then
        is of our own making and bounded, so no record can bring that about."""
        smaller = self._writer.smaller(window, refused)
        if smaller is None:
            raise ConfigError(
                f"the topic {refused.topic} takes no dead letters: that of {refused.letter.record.result_id} was refused as "
                f"too large, although nothing of the record is left in it ({size_bytes(refused):,} bytes). Raise the "
                "topic's max.message.bytes, 1 MiB by default"
            )
        return smaller

    def _give_up(self, failure: KafkaFailure) -> NoReturn:
        """Throws the producer away and says what happened in the port's terms."""
        self._discard()
        if isinstance(failure, Refused):
            raise KafkaUnavailable(f"delivering to Kafka: {failure}") from failure
        raise DeliveryFailed(str(failure)) from failure

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.discard()


class AtLeastOnce(_Delivery):
    """Publishes, awaits every acknowledgement, then commits the offsets through the consumer: `commit` is the source's."""

    def __init__(self, driver: Driver, writer: AnswerWriter, commit: Callable[[Window], None]) -> None:
        super().__init__(driver, writer)
        self._commit = commit

    def _open(self) -> Producer:
        return self._driver.open_producer()

    def _attempt(self, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        try:
            suspects = self._publish(outgoing)
            if suspects:
                return self._too_large(outgoing, suspects)
        except KafkaFailure as failure:
            self._give_up(failure)
        self._commit(window)
        return []

    def _refused_alone(self, out: Outgoing) -> bool:
        refused = self._publish([out])
        self._discard()
        return bool(refused)

    def _publish(self, outgoing: Sequence[Outgoing]) -> list[int]:
        suspects = publish(self._ready_producer(), outgoing)
        if suspects:
            # A refusal is fatal to an idempotent producer: whatever it is given afterwards fails in the same words.
            self._discard()
        return suspects


class ExactlyOnce(_Delivery):
    """One window is one transaction: results, dead letters and offsets become visible together or not at all.

    The offsets go with the membership as it stood at the poll, so that a worker whose partitions were given away is
    fenced (KIP-447). After any failure the producer is replaced, which settles what was in doubt, before DeliveryFailed
    tells the pipeline to read the committed offsets.

    It is also replaced after a commit that is in doubt: see driver.Commit."""

    def __init__(
        self,
        driver: Driver,
        writer: AnswerWriter,
        *,
        topic_id: str,
        transactional_id: str,
        transaction_timeout_seconds: float,
        events: Events,
        clock: Clock,
        wait: Callable[[float], bool],
    ) -> None:
        """`topic_id` goes with each offset; `wait` blocks for seconds, and returns whether to give up."""
        super().__init__(driver, writer)
        self._topic_id = topic_id
        self._transactional_id = transactional_id
        self._events = events
        self._wait = wait
        self._clock = clock
        self._alone_seconds = (FENCED_LIMIT - 1) * transaction_timeout_seconds
        """What lies at least between the first and the last of FENCED_LIMIT fences while no other process is there."""
        self._fenced_at: deque[float] = deque(maxlen=FENCED_LIMIT)
        self._jitter = Random()  # noqa: S311  not for secrets

    def settle(self) -> None:
        """For the start: ends whatever transaction an earlier process with our id left open. Blocks until Kafka has
        answered, waiting out an outage unless the worker stops. Raises ConfigError where Kafka refuses us."""
        with at_start(OPENING):
            self._reopen()

    def _reopen(self) -> None:
        """A new producer, unless there is one: the attempt is repeated until it succeeds or the worker stops. Raises
        Refused."""
        attempt = 0
        while self._producer is None:
            try:
                self._producer = self._open()
            except Refused:
                raise
            except KafkaFailure as failure:
                attempt += 1
                delay = SETTLE_BACKOFF.after(attempt, self._jitter)
                self._events.retrying(Retry("deliver", failure.status, attempt, delay, str(failure)))
                if self._wait(delay):
                    return

    def _open(self) -> Producer:
        return self._driver.open_producer(self._transactional_id)

    def _attempt(self, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        try:
            too_large = self._transaction(self._ready_producer(), window, outgoing)
        except KafkaFailure as failure:
            self._count_fences(failure, window)
            self._settle_and_give_up(failure)
        return too_large

    def _transaction(self, producer: Producer, window: Window, outgoing: Sequence[Outgoing]) -> list[int]:
        producer.begin()
        suspects = publish(producer, outgoing)
        if suspects:
            # The batch that was refused has failed the transaction; the caller sends smaller answers in a new one.
            self._abort(producer)
            return self._too_large(outgoing, suspects)
        producer.send_offsets(window.next_offsets, self._topic_id, window.membership)
        if producer.commit() is Commit.DOUBTFUL:
            self._discard()
        return []

    def _refused_alone(self, out: Outgoing) -> bool:
        producer = self._ready_producer()
        producer.begin()
        refused = publish(producer, [out])
        self._abort(producer)
        return bool(refused)

    def _abort(self, producer: Producer) -> None:
        producer.abort()
        self._discard()

    def _count_fences(self, failure: KafkaFailure, window: Window) -> None:
        if isinstance(failure, FencedInstance):
            self._discard()
            raise replaced(window.membership.instance_id) from failure
        if not isinstance(failure, FencedProducer):
            return
        fences = self._fenced_at
        fences.append(self._clock.monotonic())
        if len(fences) == FENCED_LIMIT and fences[-1] - fences[0] < self._alone_seconds:
            self._discard()
            raise Fenced(
                f"another live process uses the transactional id {self._transactional_id!r}: give each worker its own with "
                "--transactional-id"
            ) from failure

    def _settle_and_give_up(self, failure: KafkaFailure) -> NoReturn:
        self._discard()
        if not isinstance(failure, Refused):
            try:
                self._reopen()
            except Refused as refused:
                raise KafkaUnavailable(f"{OPENING}: {refused}") from refused
        self._give_up(failure)


def publish(producer: Producer, outgoing: Sequence[Outgoing]) -> list[int]:
    """Sends everything and waits for every acknowledgement. Returns the indexes of those that were refused as too large, as
    far as it came, and perhaps of neighbours that the client blames as well.

    Raises KafkaFailure where anything failed for another reason only."""
    not_sent = producer.send(outgoing)
    too_large = [place for place, failure in not_sent if isinstance(failure, TooLarge)]
    # One refusal fails others in other words, too: what they say matters only where nothing is too large.
    if not_sent and not too_large:
        raise not_sent[0].failure
    return too_large


def size_bytes(out: Outgoing) -> int:
    """What a record takes in a batch, within a few bytes: a thousand empty headers are a size, too."""
    size = RECORD_BYTES + len(out.key or b"") + len(out.value or b"")
    return size + sum(HEADER_BYTES + len(name.encode()) + len(content) for name, content in out.headers)
