"""What happens in the worker, as Prometheus metrics and structured logs. Implements `ports.Events`.

`worker.observability.health` serves what is collected here; `worker.observability.metrics` says what each metric means.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from worker.observability import metrics
from worker.observability.instruments import BulkHistogram, PartitionGauge, Series
from worker.observability.logs import REPEAT_SECONDS, RateLimit
from worker.observability.metrics import Metric
from worker.observability.progress import Progress
from worker.observability.version import own_version
from worker.ports import Clock, ServedModel
from worker.records import Partition, Reason, Retry


class Telemetry:
    """Counts and logs what happens; see `ports.Events` for each method.

    Registers the whole catalogue and the process's own CPU and memory in `registry`, so one Telemetry a registry.
    """

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        # A creation time for every series would nearly double the scrape.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        prometheus_client.ProcessCollector(registry=registry)
        self._clock = clock
        self._log: Any = structlog.get_logger("worker")
        self._limit = RateLimit(REPEAT_SECONDS, clock.monotonic)
        self._progress = Progress(clock.monotonic)
        self._state = ""
        self._detail = ""
        self._served: ServedModel | None = None
        self._answers: dict[str, dict[str, int]] = {"results": {}, "dead_letters": {}}
        """What was made durable so far: results by label, dead letters by reason."""
        self._lag: Mapping[Partition, int] = {}
        PartitionGauge(metrics.LAG, registry, lambda: self._lag)
        PartitionGauge(metrics.UNDELIVERED_SECONDS, registry, self._undelivered_seconds)

        def counter(spec: Metric) -> Counter:
            return Counter(spec.name, spec.help, spec.labels, registry=registry)

        def gauge(spec: Metric) -> Gauge:
            return Gauge(spec.name, spec.help, spec.labels, registry=registry)

        def histogram(spec: Metric) -> Histogram:
            return Histogram(spec.name, spec.help, spec.labels, registry=registry, buckets=spec.buckets)

        self._records = counter(metrics.RECORDS)
        self._record_bytes = counter(metrics.RECORD_BYTES)
        self._window_records = histogram(metrics.WINDOW_RECORDS)
        stage_seconds = histogram(metrics.STAGE_SECONDS)
        self._decode_seconds, self._encode_seconds, self._deliver_seconds = (
            stage_seconds.labels(stage) for stage in metrics.STAGES
        )
        self._truncated = counter(metrics.TRUNCATED)
        tokens = counter(metrics.TOKENS)
        self._real_tokens, self._padding_tokens = tokens.labels("real"), tokens.labels("padding")
        self._batch_rows = histogram(metrics.BATCH_ROWS)
        self._batch_fill = histogram(metrics.BATCH_FILL)
        self._predict_seconds = Series(histogram(metrics.PREDICT_SECONDS), [("OK",)])
        self._results = Series(counter(metrics.RESULTS))
        self._dead_letters = Series(counter(metrics.DEAD_LETTERS), [(reason.value,) for reason in Reason])
        self._latency_seconds = BulkHistogram(metrics.LATENCY_SECONDS, registry)
        self._retries = Series(counter(metrics.RETRIES))
        self._dropped_windows = counter(metrics.DROPPED_WINDOWS)
        self._windows_in_flight = gauge(metrics.WINDOWS_IN_FLIGHT)
        self._requests_in_flight = gauge(metrics.REQUESTS_IN_FLIGHT)
        self._requests_limit = gauge(metrics.REQUESTS_LIMIT)
        self._states = Series(gauge(metrics.STATE), [(state,) for state in metrics.STATES])
        self._last_progress = gauge(metrics.LAST_PROGRESS)
        self._last_progress.set(clock.time())
        self._model_available = gauge(metrics.MODEL_AVAILABLE)
        self._model_info = gauge(metrics.MODEL_INFO)
        self._encoder_info = gauge(metrics.ENCODER_INFO)
        gauge(metrics.BUILD_INFO).labels(own_version(), platform.python_version()).set(1)
        self._shadow_rows = counter(metrics.SHADOW_ROWS)
        self._shadow_agreements = counter(metrics.SHADOW_AGREEMENTS)
        self._shadow_skipped = counter(metrics.SHADOW_SKIPPED)
        self._shadow_difference = BulkHistogram(metrics.SHADOW_DIFFERENCE, registry)
        self.state("starting")

    # --- what the probes ask -------------------------------------------------------------------------------------

    def stalled(self, limit_seconds: float) -> str | None:
        """For /livez: a sentence when records wait and nothing has been delivered for `limit_seconds`, though the
        worker says it is running; None when all is well, or when it holds because the model server is away."""
        return self._progress.stalled(limit_seconds)

    def unready(self) -> str | None:
        """For /readyz: a sentence that says why the worker does not answer reviews now; None when it does."""
        if self._state != "running":
            return f"The worker is {self._state}{': ' if self._detail else ''}{self._detail}"
        if self._served is None:
            return "No model version is available."
        return None

    def summary(self) -> dict[str, dict[str, int]]:
        """For the end of a bounded run: how many `results` by label and `dead_letters` by reason were made durable."""
        return self._answers

    # --- ports.Events --------------------------------------------------------------------------------------------

    def polled(self, records: int, size_bytes: int) -> None:
        """See ports.Events."""
        self._records.inc(records)
        self._record_bytes.inc(size_bytes)
        self._window_records.observe(records)

    def decoded(self, seconds: float, reviews: int, dead_letters: int) -> None:
        """See ports.Events."""
        self._decode_seconds.observe(seconds)
        self._log.debug("decoded", seconds=seconds, reviews=reviews, dead_letters=dead_letters)

    def encoded(self, seconds: float, reviews: int, tokens: int, truncated: int) -> None:
        """See ports.Events."""
        self._encode_seconds.observe(seconds)
        self._truncated.inc(truncated)
        self._log.debug("encoded", seconds=seconds, reviews=reviews, tokens=tokens, truncated=truncated)

    def batched(self, rows: int, tokens: int, padded_tokens: int) -> None:
        """See ports.Events."""
        self._batch_rows.observe(rows)
        self._real_tokens.inc(tokens)
        self._padding_tokens.inc(max(0, padded_tokens - tokens))
        if padded_tokens:
            self._batch_fill.observe(tokens / padded_tokens)

    def predicted(self, seconds: float, status: str) -> None:
        """See ports.Events."""
        self._predict_seconds.of(status).observe(seconds)

    def retrying(self, retry: Retry) -> None:
        """See ports.Events."""
        self._retries.of(retry.what, retry.status).inc()
        left_out = self._limit.admit(("retrying", retry.what, retry.status))
        if left_out is not None:
            self._log.warning("trying again", **retry.told, left_out=left_out)

    def delivered(
        self,
        seconds: float,
        results_by_label: Mapping[str, int],
        dead_letters_by_reason: Mapping[str, int],
        latencies_seconds: Sequence[float],
        partitions: Collection[Partition] | None = None,
    ) -> None:
        """See ports.Events. `partitions` are those of the window; None counts as progress of every partition."""
        self._deliver_seconds.observe(seconds)
        for label, count in results_by_label.items():
            self._results.of(label).inc(count)
            self._answers["results"][label] = self._answers["results"].get(label, 0) + count
        for reason, count in dead_letters_by_reason.items():
            self._dead_letters.of(reason).inc(count)
            self._answers["dead_letters"][reason] = self._answers["dead_letters"].get(reason, 0) + count
        self._latency_seconds.observe_all(latencies_seconds)
        self._last_progress.set(self._clock.time())
        self._progress.delivered(partitions)
        self._log.debug("delivered", seconds=seconds, results=dict(results_by_label))
        if dead_letters_by_reason:
            left_out = self._limit.admit("dead letters")
            if left_out is not None:
                self._log.warning("dead letters", reasons=dict(dead_letters_by_reason), windows_left_out=left_out)

    def dropped(self, windows: int, why: str) -> None:
        """See ports.Events."""
        self._dropped_windows.inc(windows)
        left_out = self._limit.admit(("dropped", windows > 0))
        if left_out is not None:
            self._log.warning("windows dropped, to be read again", windows=windows, why=why, left_out=left_out)

    def in_flight(self, windows: int) -> None:
        """See ports.Events."""
        self._windows_in_flight.set(windows)
        self._progress.in_flight(windows)

    def requests(self, in_flight: int, limit: int) -> None:
        """See ports.Events."""
        self._requests_in_flight.set(in_flight)
        self._requests_limit.set(limit)

    def lag(self, by_partition: Mapping[Partition, int]) -> None:
        """See ports.Events."""
        before, now = self._lag, dict(by_partition)
        self._lag = now
        self._progress.lag(by_partition)
        if before.keys() != now.keys():
            self._log.info(
                "partitions changed",
                gained=_names(now.keys() - before.keys()),
                lost=_names(before.keys() - now.keys()),
                partitions=len(now),
            )

    def serving(self, served: ServedModel | None) -> None:
        """See ports.Events."""
        before, self._served = self._served, served
        self._model_info.clear()
        self._encoder_info.clear()
        self._model_available.set(served is not None)
        if served is None:
            if before is not None:
                self._log.warning("no model version is available", before=before.version)
            return
        self._model_info.labels(served.name, str(served.version), served.digest).set(1)
        encoder = served.encoder.name
        self._encoder_info.labels(encoder).set(1)
        for label in served.all_labels:  # from the first scrape on, so that rate() sees the first result of each label
            self._results.of(label)
        self._log.info("model in use", model=served.name, version=served.version, digest=served.digest, encoder=encoder)

    def shadowed(self, rows: int, agreements: int, score_differences: Sequence[float]) -> None:
        """See ports.Events."""
        self._shadow_rows.inc(rows)
        self._shadow_agreements.inc(agreements)
        self._shadow_difference.observe_all([abs(difference) for difference in score_differences])

    def shadow_skipped(self) -> None:
        """See ports.Events."""
        self._shadow_skipped.inc()

    def state(self, state: str, detail: str = "") -> None:
        """See ports.Events."""
        changed = state != self._state
        self._state, self._detail = state, detail
        if not changed:
            return
        for name in metrics.STATES:
            self._states.of(name).set(name == state)
        self._progress.running(now=state == "running")
        log = self._log.warning if state == "holding" else self._log.info
        log(state, **({"detail": detail} if detail else {}))

    def _undelivered_seconds(self) -> Mapping[Partition, float]:
        waiting = self._progress.waiting_seconds()
        return {partition: waiting.get(partition, 0.0) for partition in self._lag}


def _names(partitions: Collection[Partition]) -> list[str]:
    return sorted(f"{topic}/{partition}" for topic, partition in partitions)
