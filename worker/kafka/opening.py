"""The worker's Kafka side put together: the one door of this package."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from protos.forms import Form
from worker.errors import ConfigError
from worker.kafka.answers import AnswerWriter
from worker.kafka.bound_offsets import apply_start, until_offsets
from worker.kafka.delivery import AtLeastOnce, ExactlyOnce
from worker.kafka.driver import Consumer, Driver
from worker.kafka.drivers import make_driver
from worker.kafka.failures import at_start, not_let_in
from worker.kafka.source import KafkaSource, SourceOptions
from worker.kafka.topics import check_topics, partitions_of
from worker.ports import Clock, Delivery, Events, Source
from worker.run_bounds import parse_start, parse_until
from worker.settings import Settings
from worker.state import WorkerState

T = TypeVar("T")


class Retry(Protocol):
    """See `__call__`."""

    def __call__(self, call: Callable[[], T], /) -> T:
        """What `call` returns, called again while it raises KafkaUnavailable and the start may still take time. Raises the
        last one, and everything else at once."""


class Kafka:
    """The source and the delivery of one worker, over one client.

    `connect`, `start`, then `source` and `delivery` are used by their threads, and `close` ends both. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        *,
        state: WorkerState,
        events: Events,
        clock: Clock,
        retry: Retry,
        wait: Callable[[float], bool],
        bounded: Callable[[Mapping[int, int] | None], None] = lambda _until: None,
        driver: Driver | None = None,
    ) -> None:
        """Connects to nothing. `driver`: the Kafka client, by default the one that the settings name.

        `bounded` is told, before the group is joined, that `start` is applied and at which offsets the run ends, if it does.
        `wait` blocks for seconds before Kafka is asked again, and returns whether to give up."""
        self._settings = settings
        self._state = state
        self._events = events
        self._clock = clock
        self._retry = retry
        self._wait = wait
        self._bounded = bounded
        self._driver = driver or make_driver(settings.kafka_client, settings, clock)
        self._consumer: Consumer | None = None
        self._delivery: AtLeastOnce | ExactlyOnce | None = None
        self._counts: dict[str, int] = {}

    def connect(self) -> None:
        """Connects, and checks that all topics are there. Blocks while Kafka is away, as long as `retry` goes on.

        Raises ConfigError where a topic is missing or the brokers refuse us, KafkaUnavailable."""
        consumer = self._consumer = self._retry(self._open_consumer)
        self._counts = self._retry(lambda: check_topics(self._driver, consumer, self._settings))

    def start(self) -> tuple[Source, Delivery]:
        """Applies where to start and to end, and settles what an earlier worker left open. After `connect`. Blocks while
        Kafka is away.

        Raises ConfigError where an offset does not exist, the group has members or the brokers refuse us,
        KafkaUnavailable."""
        settings, consumer, retry = self._settings, self._connected(), self._retry
        partitions = partitions_of(settings.input_topic, self._counts)
        start, until = parse_start(settings.start), parse_until(settings.until)
        retry(lambda: apply_start(self._driver, consumer, partitions, start, group=settings.group))
        ends = retry(lambda: until_offsets(consumer, partitions, until))
        self._bounded(ends)
        options = SourceOptions(window_records=settings.window_records, fill_seconds=settings.fill_seconds, until=ends)
        source = KafkaSource(
            consumer,
            settings.input_topic,
            options,
            state=self._state,
            events=self._events,
            clock=self._clock,
            wait=self._wait,
        )
        return source, self._open_delivery(source)

    def close(self) -> None:
        """First the delivery, so that nothing more is published, then the source: it leaves the group, and others get its
        partitions at once. Blocks up to seconds; idempotent, whatever was opened."""
        try:
            if self._delivery is not None:
                self._delivery.close()
        finally:
            if self._consumer is not None:
                self._consumer.close()

    def _open_consumer(self) -> Consumer:
        brokers = self._settings.bootstrap
        try:
            with at_start(f"connecting to Kafka at {brokers}"):
                return self._driver.open_consumer()
        except ConfigError as error:
            told = not_let_in(error.__cause__, brokers)
            if told is not None:
                raise ConfigError(told) from error
            raise

    def _connected(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("connect() comes before start()")
        return self._consumer

    def _open_delivery(self, source: KafkaSource) -> Delivery:
        settings = self._settings
        writer = AnswerWriter(
            output_topic=settings.output_topic,
            dead_letter_topic=settings.dead_letter_topic,
            partitions=self._counts,
            form=Form(settings.result_format),
            group=settings.group,
            now_seconds=self._clock.time,
            worker=f"{socket.gethostname()}/{settings.producer_id}",
            audit=settings.audit_headers,
            pass_headers=settings.passed_headers,
        )
        if settings.delivery == "at-least-once":
            self._delivery = AtLeastOnce(self._driver, writer, source.commit)
            return self._delivery
        delivery = ExactlyOnce(
            self._driver,
            writer,
            topic_id=source.topic_id,
            transactional_id=settings.producer_id,
            transaction_timeout_seconds=settings.transaction_timeout_seconds,
            events=self._events,
            clock=self._clock,
            wait=self._wait,
        )
        self._delivery = delivery
        delivery.settle()
        return delivery
