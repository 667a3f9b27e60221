"""What TensorFlow Serving measures of its requests, under its own names, as a page for Prometheus.

Names, labels and buckets are those of servables/tensorflow/util.cc, the page's form that of util/prometheus_exporter.cc;
prometheus_client would add `_total` to the counter's name.
"""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from deploy.local.model_server.status import StatusError

DEFAULT_PATH = "/monitoring/prometheus/metrics"
"""Where the page is when the configuration names no path."""
REQUEST_COUNT = ":tensorflow:serving:request_count"
REQUEST_LATENCY = ":tensorflow:serving:request_latency"
BUCKETS_US = tuple(10 * 1.8**power for power in range(33))
"""Upper bounds of the latency's buckets but the last, which has none; microseconds."""


@dataclass
class _Histogram:
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_US) + 1))
    sum_us: float = 0.0


class Monitoring:
    """Counts and times requests. Thread-safe. Memory grows with the distinct model names that are asked for, as there."""

    def __init__(self, clock_seconds: Callable[[], float] = time.perf_counter) -> None:
        self._clock_seconds = clock_seconds
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str], int] = {}
        self._latencies: dict[tuple[str, str, str], _Histogram] = {}

    @contextmanager
    def request(self, model: str, api: str, entrypoint: str) -> Iterator[None]:
        """Around the work for one request: counts it by its status, and its time when it succeeds.

        `api` is `Predict` over gRPC and `predict` over REST, `entrypoint` is `GRPC` or `REST`."""
        began = self._clock_seconds()
        status = "INTERNAL"
        try:
            yield
            status = "OK"
        except StatusError as error:
            status = error.code.name
            raise
        finally:
            self._record(model, status, (model, api, entrypoint), (self._clock_seconds() - began) * 1e6)

    def page(self) -> str:
        """Everything measured so far in Prometheus' text format."""
        with self._lock:
            lines = [f"# TYPE {REQUEST_COUNT} counter"]
            for (model, status), count in self._requests.items():
                lines.append(f"{REQUEST_COUNT}{_labels(model_name=model, status=status)} {count}")
            lines.append(f"# TYPE {REQUEST_LATENCY} histogram")
            for (model, api, entrypoint), histogram in self._latencies.items():
                lines += _histogram_lines(histogram, model_name=model, API=api, entrypoint=entrypoint)
        return "\n".join(lines) + "\n"

    def _record(self, model: str, status: str, latency_of: tuple[str, str, str], latency_us: float) -> None:
        with self._lock:
            self._requests[model, status] = self._requests.get((model, status), 0) + 1
            if status == "OK":
                histogram = self._latencies.setdefault(latency_of, _Histogram())
                histogram.buckets[bisect.bisect_left(BUCKETS_US, latency_us)] += 1
                histogram.sum_us += latency_us


def _histogram_lines(histogram: _Histogram, **labels: str) -> Iterator[str]:
    limits = [*(f"{limit:g}" for limit in BUCKETS_US), "+Inf"]
    cumulative = list(itertools.accumulate(histogram.buckets))
    for limit, count in zip(limits, cumulative, strict=True):
        yield f"{REQUEST_LATENCY}_bucket{_labels(**labels, le=limit)} {count}"
    yield f"{REQUEST_LATENCY}_sum{_labels(**labels)} {histogram.sum_us:.0f}"
    yield f"{REQUEST_LATENCY}_count{_labels(**labels)} {cumulative[-1]}"


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    """A line break is escaped too, which TensorFlow Serving leaves out: a model's name in a request may have one."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
