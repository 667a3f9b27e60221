"""The worker put together from its settings: checks first, then the first poll."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Event

import structlog
from prometheus_client import CollectorRegistry

from worker.backoff import Backoff
from worker.channel import Bounds, Port, Running, Summary, Tell, to_nobody
from worker.clock import SystemClock
from worker.errors import KafkaUnavailable, ServingUnavailable, WorkerError
from worker.kafka import Kafka
from worker.names import names
from worker.observability import Telemetry, open_port, open_tracing
from worker.pipeline import Options, Pipeline, assemble
from worker.pipeline.batching import Limits
from worker.pipeline.decoding import decoder
from worker.pipeline.shadow import Shadow
from worker.ports import Clock, Events
from worker.serving import make_model, open_shadow
from worker.settings import Settings
from worker.startup import Startup
from worker.state import Phase, WorkerState
from worker.text import build_encoder


class Service:
    """One worker: its adapters, its pipeline and its health endpoint."""

    def __init__(self, settings: Settings, tell: Tell = to_nobody) -> None:
        """`tell`: for one process of several, what the parent is told."""
        self._settings = settings
        self._tell = tell
        self._clock: Clock = SystemClock()
        self._registry = CollectorRegistry()
        self.telemetry = Telemetry(self._registry, self._clock)
        self._events: Events = self.telemetry
        self._state = WorkerState(self._events.state)
        self._stopping = Event()
        self._abandon = Event()
        """Set once nothing in flight is worth waiting for any more."""
        self._startup = Startup(settings.startup_seconds, self._stopping, self._events, self._clock)
        self._pipeline: Pipeline | None = None
        self._log = structlog.get_logger("worker")

    def stop(self, *, hard: bool = False) -> None:
        """Ends `run`: softly, finishing what is in flight, or hard, giving it up. Never blocks; for any thread, but for no
        signal handler, since it takes locks."""
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
        with ExitStack() as closing:
            self._open_port(closing)
            try:
                self._pipeline = self._assemble(closing)
            except WorkerError:
                if not self._stopping.is_set():
                    raise
            # Told to stop while it started: whatever was not there yet is not needed any more.
            if self._pipeline is None or self._stopping.is_set():
                return True
            self._tell(Running())
            began = self._clock.monotonic()
            outcome = self._pipeline.run()
            seconds = self._clock.monotonic() - began
        self._state.enter(Phase.STOPPED)
        if settings.until:
            summary = self.telemetry.summary()
            self._log.info("summary", complete=outcome.complete, seconds=round(seconds, 1), **summary)
            self._tell(Summary(outcome.complete, **summary))
        return outcome.drained

    def _open_port(self, closing: ExitStack) -> None:
        telemetry, registry = self.telemetry, self._registry
        live = partial(telemetry.stalled, self._settings.stall_seconds)
        port = open_port(
            self._settings,
            registry,
            live,
            telemetry.unready,
            collect=registry.collect,
            clock=self._clock,
            closing=closing,
        )
        self._tell(Port(port))

    def _assemble(self, closing: ExitStack) -> Pipeline:
        """Connects to both servers at once, checks that all fits, and only then builds the loop.

        The order in which `closing` undoes it is the order in which a worker stops:

        1. Kafka, first the delivery: nothing more is published; then the source: it leaves the group, and others get its
           partitions at once;
        2. the wait for the model server, where the start failed while it lasted;
        3. the model: the calls under way end, nobody waits for their answers any more;
        4. the shadow: nothing waits for it;
        5. the traces: what is recorded goes to the collector, or nowhere after a few seconds;
        6. the port (see `run`): probes are answered to the very end."""
        settings, events, clock = self._settings, self._events, self._clock
        tracing = open_tracing(settings)
        closing.callback(tracing.close)
        shadow = self._shadow()
        if shadow is not None:
            closing.callback(shadow.close)
        # Told to stop, then closed, then joined: so the wait for the model server ends when Kafka's side fails.
        aside = closing.enter_context(ThreadPoolExecutor(1, "model"))
        model = make_model(settings, build_encoder, events, clock)
        closing.callback(model.close)
        closing.callback(self._stopping.set)
        opening = aside.submit(self._startup.retry_until_available, ServingUnavailable, model.refresh)
        kafka = Kafka(
            settings,
            state=self._state,
            events=events,
            clock=clock,
            retry=partial(self._startup.retry_until_available, KafkaUnavailable),
            wait=self._wait,
            bounded=lambda until: self._tell(Bounds(until)),
        )
        closing.callback(kafka.close)
        kafka.connect()
        opening.result()
        aside.shutdown()
        source, delivery = kafka.start()
        return assemble(
            source,
            model,
            delivery,
            pipeline_options(settings),
            state=self._state,
            events=events,
            clock=clock,
            abandon=self._abandon,
            shadow=shadow,
            tracing=tracing,
        )

    def _shadow(self) -> Shadow | None:
        settings = self._settings
        if not settings.shadow:
            return None
        return Shadow(
            open_shadow(settings, build_encoder, self._clock),
            self._events,
            batch_limits(settings),
            logits=settings.logits,
        )

    def _wait(self, seconds: float) -> bool:
        """Waits before Kafka is asked again; whether to give up instead. Raises KafkaUnavailable when it is still the start
        that waits, for an earlier worker's transaction to be settled, and its time is over."""
        if self._pipeline is None and self._startup.over():
            raise KafkaUnavailable(
                f"no transactional producer could be opened within the start's {self._startup.seconds:g} s"
            )
        return self._clock.wait(self._abandon, seconds)


def batch_limits(settings: Settings) -> Limits:
    """How large a micro-batch may be."""
    return Limits(rows=settings.batch_rows, tokens=settings.batch_tokens, padding_tokens=settings.batch_padding_tokens)


def pipeline_options(settings: Settings) -> Options:
    """What the settings say of the pipeline."""
    return Options(
        decode=decoder(settings.max_review_bytes, settings.review_fields),
        window_records=settings.window_records,
        max_windows=settings.max_windows,
        batch_limits=batch_limits(settings),
        backoff=Backoff(settings.retry_delay_seconds, settings.max_retry_delay_seconds),
        max_strikes=settings.max_strikes,
        dead_letter_share=settings.dead_letter_share,
        dead_letter_run=settings.dead_letter_run,
        drain_seconds=settings.drain_seconds,
        logits=settings.logits,
        all_scores=settings.all_scores,
        pass_attributes=names(settings.pass_attributes),
    )
