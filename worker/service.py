"""The worker put together from its settings: checks first, then the first poll."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Event
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry

from protos.forms import Form
from worker.backoff import Backoff
from worker.clock import SystemClock
from worker.errors import KafkaUnavailable, ServingUnavailable, WorkerError
from worker.kafka.answers import AnswerWriter
from worker.kafka.bound_offsets import apply_start, until_offsets
from worker.kafka.client import check_topics, consumer_options, producer_options
from worker.kafka.delivery import AtLeastOnce, ExactlyOnce
from worker.kafka.source import KafkaSource, open_consumer
from worker.observability.health import Health
from worker.observability.telemetry import Telemetry
from worker.pipeline.dead_letter_limit import DeadLetterLimit
from worker.pipeline.decoding import decoder
from worker.pipeline.pipeline import Options, Pipeline
from worker.pipeline.predicting import Predictor
from worker.pipeline.shadow import Shadow
from worker.ports import Clock, Events
from worker.run_bounds import parse_start, parse_until
from worker.serving.opening import make_model, open_shadow
from worker.settings import Settings

RETRY_SECONDS = 0.5
"""Wait between attempts to reach what is not there yet at start."""

T = TypeVar("T")


class Service:
    """One worker: its adapters, its pipeline and its health endpoint."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock: Clock = SystemClock()
        self._registry = CollectorRegistry()
        self.telemetry = Telemetry(self._registry, self._clock)
        self._events: Events = self.telemetry
        self._abandon = Event()
        self._stopping = Event()
        self._start_deadline = 0.0
        """On the clock, for all waits at start together; set when they begin."""
        self._pipeline: Pipeline | None = None
        self._log = structlog.get_logger("worker")

    def stop(self, *, hard: bool = False) -> None:
        """Ends `run`: softly, finishing what is in flight, or hard. Safe in a signal handler."""
        self._stopping.set()
        if hard or self._pipeline is None:  # before the pipeline is there, nothing is in flight that could be finished
            self._abandon.set()
        if self._pipeline is not None:
            self._pipeline.stop(hard=hard)

    def run(self) -> bool:
        """Checks everything, then works until stopped. Returns whether all that was polled was also delivered.

        Raises WorkerError: ConfigError, KafkaUnavailable, ServingUnavailable or ModelMismatch at start, and what stops
        a running worker (DeadLetterLimitReached, Fenced, OffsetsLost)."""
        settings = self._settings
        self._events.state("starting")
        with ExitStack() as closing:
            health = Health(
                settings.metrics_host,
                settings.metrics_port,
                self._registry,
                live=partial(self.telemetry.stalled, settings.stall_seconds),
                ready=self.telemetry.unready,
            )
            port = health.start()
            closing.callback(health.close)
            self._log.info("metrics and health", url=f"http://{settings.metrics_host}:{port}/metrics")
            try:
                self._pipeline = self._assemble(closing)
            except WorkerError:
                if not self._stopping.is_set():
                    raise
            # Told to stop while it started: whatever was not there yet is not needed any more.
            if self._pipeline is None or self._stopping.is_set():
                return True
            began = self._clock.monotonic()
            finished = self._pipeline.run()
            seconds = self._clock.monotonic() - began
        self._events.state("stopped")
        if settings.until:
            self._log.info(
                "summary", complete=self._pipeline.complete, seconds=round(seconds, 1), **self.telemetry.summary()
            )
        return finished

    def _assemble(self, closing: ExitStack) -> Pipeline:
        """Connects to both servers at once, checks that all fits, and only then builds the loop.

        The order in which `closing` undoes it: the delivery first, so that nothing more is published; then the source,
        which leaves the group and hands the partitions on; then the model, since the others may wait for its answers; the
        shadow last, since nobody waits for it."""
        settings, events, clock = self._settings, self._events, self._clock
        shadow = self._shadow()
        if shadow is not None:
            closing.callback(shadow.close)
        self._start_deadline = clock.monotonic() + settings.startup_seconds
        # When Kafka's side fails, the wait for the model server ends with it: told to stop, then closed, then joined.
        aside = closing.enter_context(ThreadPoolExecutor(1, "model"))
        model = make_model(settings, events, clock)
        closing.callback(model.close)
        closing.callback(self._stopping.set)
        opening = aside.submit(self._retry_until_available, ServingUnavailable, model.refresh)
        consumer = self._retry_until_available(
            KafkaUnavailable, lambda: open_consumer(consumer_options(settings), settings.input_topic)
        )
        closing.callback(consumer.close, autocommit=False)
        partitions = self._retry_until_available(KafkaUnavailable, lambda: check_topics(consumer, settings))
        opening.result()
        aside.shutdown()
        self._retry_until_available(
            KafkaUnavailable, lambda: apply_start(consumer, settings, parse_start(settings.start))
        )
        source = KafkaSource(
            consumer,
            settings.input_topic,
            window_records=settings.window_records,
            request_timeout_seconds=settings.kafka_request_timeout_seconds,
            fill_seconds=settings.fill_seconds,
            events=events,
            clock=clock,
            pause=self._pause,
            until=self._retry_until_available(
                KafkaUnavailable, lambda: until_offsets(consumer, settings, parse_until(settings.until))
            ),
        )
        closing.callback(source.close)
        delivery = self._delivery(source, partitions)
        closing.callback(delivery.close)
        predictor = Predictor(
            model,
            events,
            clock,
            self._abandon,
            backoff=Backoff(settings.retry_delay_seconds, settings.max_retry_delay_seconds),
            max_strikes=settings.max_strikes,
        )
        return Pipeline(
            source,
            model,
            delivery,
            decode=decoder(settings.max_review_bytes),
            predictor=predictor,
            dead_letter_limit=DeadLetterLimit(share=settings.dead_letter_share, run=settings.dead_letter_run),
            events=events,
            clock=clock,
            abandon=self._abandon,
            options=Options(
                max_windows=settings.max_windows,
                window_records=settings.window_records,
                max_rows=settings.batch_rows,
                max_padded_tokens=settings.batch_tokens,
                drain_seconds=settings.drain_seconds,
                logits=settings.logits,
                all_scores=settings.all_scores,
            ),
            shadow=shadow,
        )

    def _shadow(self) -> Shadow | None:
        settings = self._settings
        if not settings.shadow:
            return None
        return Shadow(
            open_shadow(settings, self._clock),
            self._events,
            max_rows=settings.batch_rows,
            max_padded_tokens=settings.batch_tokens,
            logits=settings.logits,
        )

    def _delivery(self, source: KafkaSource, partitions: dict[str, int]) -> AtLeastOnce | ExactlyOnce:
        settings = self._settings
        writer = AnswerWriter(
            output_topic=settings.output_topic,
            dead_letter_topic=settings.dead_letter_topic,
            partitions=partitions,
            form=Form(settings.result_format),
            group=settings.group,
            now_seconds=self._clock.time,
            worker=f"{socket.gethostname()}/{settings.producer_id}",
            audit=settings.audit_headers,
        )
        options = producer_options(settings)
        if settings.delivery == "at-least-once":
            return AtLeastOnce(options, writer, source.commit, events=self._events, pause=self._pause)
        delivery = ExactlyOnce(
            options,
            writer,
            source.offsets,
            transactional_id=settings.producer_id,
            transaction_timeout_seconds=settings.transaction_timeout_seconds,
            events=self._events,
            pause=self._pause,
        )
        delivery.settle()
        return delivery

    def _pause(self, seconds: float) -> bool:
        """Waits before Kafka is asked again; whether to give up instead. Raises KafkaUnavailable when it is still the start
        that waits, for an earlier worker's transaction to be settled, and its time is over."""
        if self._pipeline is None and self._clock.monotonic() > self._start_deadline:
            limit = self._settings.startup_seconds
            raise KafkaUnavailable(f"no transactional producer could be opened within the start's {limit:g} s")
        return self._clock.wait(self._abandon, seconds)

    def _retry_until_available(self, away: type[Exception], connect: Callable[[], T]) -> T:
        """Tries until what may still be starting answers, or the time that all waits at start share is over; then raises
        its error."""
        attempt = 0
        while True:
            try:
                return connect()
            except away as error:
                attempt += 1
                if self._clock.monotonic() > self._start_deadline or self._stopping.is_set():
                    raise
                self._events.retrying("start", type(error).__name__, attempt, RETRY_SECONDS, str(error))
                self._clock.wait(self._stopping, RETRY_SECONDS)
