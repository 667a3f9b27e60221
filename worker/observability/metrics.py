"""The closed catalogue of the worker's metrics: every name, label and bucket, and why.

Plain data; the telemetry beside it makes Prometheus metrics of it. The README's table, `deploy/prometheus/METRICS.md`, the
alerts and the dashboard are held against it by tests. Names follow https://prometheus.io/docs/practices/naming/:
prefix `inferry_`, base units (seconds, bytes, ratios from 0 to 1), counters end in `_total`. Every label is bounded:
where its values come from outside, `telemetry` counts those beyond a cap as `other`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

STATES = ("starting", "running", "holding", "draining", "stopped")
"""What `Events.state` may say (see worker.ports)."""

STAGES = ("decode", "encode", "deliver")
"""The stages that handle a window as a whole; predict handles batches and has a histogram of its own."""

# Encoding a window of one takes some 100 µs, a transaction's commit 10 to 30 ms, a delivery that waits for a broker's
# restart some seconds; past 30 s the delivery's own limit strikes.
_DURATIONS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# An idle worker answers within 50 ms, a loaded one within a second or so; the upper half tells a backlog of a minute
# from one of an hour or a night.
_LATENCIES_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)

# Powers of two up to the largest window and batch one would configure: what matters is the order of magnitude.
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)

# Sorting by length keeps batches above 0.9, so the steps get finer there.
_FILL_RATIOS = (0.1, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 1.0)

# From "the same but for rounding" (1e-6) over "retrained" (0.05) to "the other label" (0.5 and more).
_SCORE_DIFFERENCES = (1e-6, 1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


@dataclass(frozen=True)
class Metric:
    """One entry of the catalogue."""

    name: str
    """As it is scraped, `_total` included; a histogram's samples add `_bucket`, `_sum` and `_count`."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, without +Inf."""

    @property
    def samples(self) -> tuple[str, ...]:
        """The names under which this metric's samples appear in a scrape."""
        if self.kind == "histogram":
            return tuple(self.name + suffix for suffix in ("_bucket", "_sum", "_count"))
        return (self.name,)


RECORDS = Metric("inferry_records_total", "counter", "Records read from the input topic.")
RECORD_BYTES = Metric("inferry_record_bytes_total", "counter", "Bytes of the records read from the input topic.")
WINDOW_RECORDS = Metric(
    "inferry_window_records", "histogram", "Records in one window (what one poll brought).", buckets=_SIZES
)
STAGE_SECONDS = Metric(
    "inferry_stage_duration_seconds",
    "histogram",
    "Time one window spent in a stage: decode, encode or deliver (publish and commit).",
    ("stage",),
    _DURATIONS_SECONDS,
)
TRUNCATED = Metric("inferry_reviews_truncated_total", "counter", "Reviews cut to the model's token limit.")
TOKENS = Metric(
    "inferry_tokens_total",
    "counter",
    "Tokens sent to the model: real, and padding that makes a batch rectangular.",
    ("kind",),
)
BATCH_ROWS = Metric("inferry_batch_rows", "histogram", "Reviews in one batch (one Predict request).", buckets=_SIZES)
BATCH_FILL = Metric(
    "inferry_batch_fill_ratio",
    "histogram",
    "Share of real tokens in one batch; the padding ratio is 1 minus this.",
    buckets=_FILL_RATIOS,
)
PREDICT_SECONDS = Metric(
    "inferry_predict_duration_seconds",
    "histogram",
    "Time of one Predict call, by its gRPC status name; BAD_REPLY is a reply that failed its checks.",
    ("status",),
    _DURATIONS_SECONDS,
)
RESULTS = Metric("inferry_results_total", "counter", "Labelled results made durable, by label.", ("label",))
DEAD_LETTERS = Metric("inferry_dead_letters_total", "counter", "Dead letters made durable, by reason.", ("reason",))
LATENCY_SECONDS = Metric(
    "inferry_end_to_end_latency_seconds",
    "histogram",
    "From a record's own timestamp to its durable answer. Trust it as far as the producers' clocks agree.",
    buckets=_LATENCIES_SECONDS,
)
RETRIES = Metric(
    "inferry_retries_total",
    "counter",
    "Attempts that failed for now and were made again: what (start, predict, model, deliver, kafka) and status.",
    ("what", "status"),
)
DROPPED_WINDOWS = Metric(
    "inferry_dropped_windows_total", "counter", "Windows in flight given up, to be read again; nothing is lost."
)
WINDOWS_IN_FLIGHT = Metric("inferry_windows_in_flight", "gauge", "Windows between their poll and their commit.")
REQUESTS_IN_FLIGHT = Metric("inferry_requests_in_flight", "gauge", "Predict calls under way.")
REQUESTS_LIMIT = Metric(
    "inferry_requests_limit", "gauge", "Predict calls that may be under way at once; shrinks under overload."
)
LAG = Metric(
    "inferry_lag_records",
    "gauge",
    "Records waiting in each partition this worker holds; a revoked partition has no series.",
    ("topic", "partition"),
)
UNDELIVERED_SECONDS = Metric(
    "inferry_undelivered_seconds",
    "gauge",
    "How long records have waited in each partition this worker holds without any of it becoming durable; 0 while none "
    "waits. Counted again when the worker begins to run again.",
    ("topic", "partition"),
)
STATE = Metric("inferry_state", "gauge", f"1 for the state the worker is in: {', '.join(STATES)}.", ("state",))
LAST_PROGRESS = Metric(
    "inferry_last_progress_timestamp_seconds",
    "gauge",
    "When the last window became durable, in seconds since the epoch; the worker's start before the first one.",
)
MODEL_AVAILABLE = Metric(
    "inferry_model_available", "gauge", "1 while a usable model version is served, 0 while none is."
)
MODEL_INFO = Metric(
    "inferry_model_info",
    "gauge",
    "1, with the model version in use and its vocabulary's digest as labels; no series while there is none.",
    ("model", "version", "digest"),
)
ENCODER_INFO = Metric(
    "inferry_encoder_info",
    "gauge",
    "1, with the encoder in use as label: compiled or automaton (its slow stand-in in Python), wordpiece or text.",
    ("encoder",),
)
BUILD_INFO = Metric(
    "inferry_build_info", "gauge", "1, with the versions of Inferry and Python as labels.", ("version", "python")
)
SHADOW_ROWS = Metric("inferry_shadow_reviews_total", "counter", "Reviews that a shadow version scored too.")
SHADOW_AGREEMENTS = Metric(
    "inferry_shadow_agreements_total", "counter", "Reviews to which the shadow version gave the same label."
)
SHADOW_SKIPPED = Metric(
    "inferry_shadow_skipped_windows_total",
    "counter",
    "Windows that the shadow version did not score: it was away or too slow.",
)
SHADOW_DIFFERENCE = Metric(
    "inferry_shadow_score_difference",
    "histogram",
    "Absolute difference between the shadow version's score and the published one.",
    buckets=_SCORE_DIFFERENCES,
)

CATALOGUE: tuple[Metric, ...] = (
    RECORDS,
    RECORD_BYTES,
    WINDOW_RECORDS,
    STAGE_SECONDS,
    TRUNCATED,
    TOKENS,
    BATCH_ROWS,
    BATCH_FILL,
    PREDICT_SECONDS,
    RESULTS,
    DEAD_LETTERS,
    LATENCY_SECONDS,
    RETRIES,
    DROPPED_WINDOWS,
    WINDOWS_IN_FLIGHT,
    REQUESTS_IN_FLIGHT,
    REQUESTS_LIMIT,
    LAG,
    UNDELIVERED_SECONDS,
    STATE,
    LAST_PROGRESS,
    MODEL_AVAILABLE,
    MODEL_INFO,
    ENCODER_INFO,
    BUILD_INFO,
    SHADOW_ROWS,
    SHADOW_AGREEMENTS,
    SHADOW_SKIPPED,
    SHADOW_DIFFERENCE,
)
"""Every metric of a worker. The scrape also holds prometheus_client's `process_*` (CPU, memory, start time)."""

PROCESS_UP = Metric(
    "inferry_process_up",
    "gauge",
    "With `--processes` alone: 1 for a process that answers its parent, 0 for one that hangs, starts or waits to start.",
    ("process",),
)
PROCESS_RESTARTS = Metric(
    "inferry_process_restarts_total",
    "counter",
    "With `--processes` alone: how often the parent has started a process again.",
    ("process",),
)
OF_THE_PARENT: tuple[Metric, ...] = (PROCESS_UP, PROCESS_RESTARTS)
"""What the parent of several processes adds to theirs, each of which gets the label `process`."""


def metrics_table() -> str:
    """The catalogue as a Markdown table, for the README and `deploy/prometheus/METRICS.md`."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in (*CATALOGUE, *OF_THE_PARENT):
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(rows) + "\n"


def metrics_page() -> str:
    """The text of `deploy/prometheus/METRICS.md`; rewrite the file with `python -m tests.support.readme`."""
    return (
        "# Metrics of the worker\n\n"
        "Generated from the catalogue in `worker/observability/metrics.py` by `python -m tests.support.readme`; "
        "a test keeps it so.\n"
        "A histogram `x` is scraped as `x_bucket`, `x_sum` and `x_count`. The `process_*` metrics of the Prometheus\n"
        "client (CPU, resident memory, open files, start time) are served beside these.\n"
        "With `--processes` each series has the label `process`: the number of its process, or `supervisor` for the\n"
        "parent's own `process_*`.\n\n" + metrics_table()
    )
