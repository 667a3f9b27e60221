"""The last quarter of an hour, in a ring of fixed size: one sample each five seconds, whatever the load."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from threading import Lock
from typing import NamedTuple

from worker.observability import metrics
from worker.observability.metrics import Metric
from worker.observability.status.document import History, Quantiles
from worker.observability.status.reading import Buckets, Reading, between, quantile

SAMPLE_SECONDS = 5.0
SAMPLES = 180
"""A quarter of an hour; some 1.6 kB each."""

DURATIONS: Mapping[str, tuple[Metric, Mapping[str, str]]] = {
    "end_to_end": (metrics.LATENCY_SECONDS, {}),
    **{stage: (metrics.STAGE_SECONDS, {"stage": stage}) for stage in ("decode", "encode")},
    "predict": (metrics.PREDICT_SECONDS, {"status": "OK"}),
    "deliver": (metrics.STAGE_SECONDS, {"stage": "deliver"}),
}
"""What is timed, in the order of a review's way: the histogram, and the labels that pick its series."""

# From the state that hides behind no other: of several workers the one in trouble is shown.
_WORST_FIRST = ("holding", "starting", "draining", "stopped", "running")


class Sample(NamedTuple):
    """What is kept of one reading."""

    monotonic_seconds: float
    state: str
    answers: float
    """Results and dead letters, since the worker's start; so with the next two."""
    dead_letters: float
    retries: float
    lag_records: float
    buckets: Mapping[str, Buckets]
    """By the keys of `DURATIONS`."""


def state_of(reading: Reading) -> str:
    """The state of the worker; of several, the one that is furthest from running. While none of several tells its state,
    they are being started."""
    states = {labels["state"] for labels, value in reading.series(metrics.STATE.name) if value}
    return next((state for state in _WORST_FIRST if state in states), "starting")


def sample(reading: Reading, monotonic_seconds: float) -> Sample:
    """What the history keeps of `reading`, taken at `monotonic_seconds`."""
    dead_letters = reading.total(metrics.DEAD_LETTERS)
    return Sample(
        monotonic_seconds,
        state_of(reading),
        answers=reading.total(metrics.RESULTS) + dead_letters,
        dead_letters=dead_letters,
        retries=reading.total(metrics.RETRIES),
        lag_records=reading.total(metrics.LAG),
        buckets={name: reading.buckets(metric, **labels) for name, (metric, labels) in DURATIONS.items()},
    )


def quantiles(name: str, buckets: Buckets) -> Quantiles:
    """Of one of `DURATIONS`."""
    bounds = DURATIONS[name][0].buckets
    p50, p95, p99 = (quantile(q, bounds, buckets) for q in (0.5, 0.95, 0.99))
    return Quantiles(count=int(buckets[-1]), p50_seconds=p50, p95_seconds=p95, p99_seconds=p99)


class Ring:
    """The samples, oldest first. Thread-safe."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=SAMPLES + 1)  # a step lies between two samples
        self._lock = Lock()

    def due(self, now_seconds: float) -> bool:
        """Whether it is time for the next sample."""
        with self._lock:
            return not self._samples or now_seconds - self._samples[-1].monotonic_seconds >= SAMPLE_SECONDS

    def add(self, sample: Sample) -> None:
        """Keeps the sample; beyond the ring's size the oldest makes room."""
        with self._lock:
            self._samples.append(sample)

    def samples(self) -> list[Sample]:
        """Those kept now."""
        with self._lock:
            return list(self._samples)


def before(samples: Sequence[Sample], now_seconds: float, window_seconds: float) -> Sample:
    """The latest sample that is at least `window_seconds` old; the oldest there is where none is. Raises IndexError for
    no samples."""
    old_enough = [each for each in samples if now_seconds - each.monotonic_seconds >= window_seconds]
    return old_enough[-1] if old_enough else samples[0]


def history(samples: Sequence[Sample], now_seconds: float) -> History:
    """The steps between the samples, for the graphs."""
    told = History()
    for earlier, later in pairwise(samples):
        seconds = max(later.monotonic_seconds - earlier.monotonic_seconds, 1e-9)
        latency = quantiles("end_to_end", between(earlier.buckets["end_to_end"], later.buckets["end_to_end"]))
        told.ages_seconds.append(round(now_seconds - later.monotonic_seconds, 3))
        told.states.append(later.state)
        told.reviews_per_second.append(round((later.answers - earlier.answers) / seconds, 3))
        told.dead_letters_per_second.append(round((later.dead_letters - earlier.dead_letters) / seconds, 3))
        told.retries_per_second.append(round((later.retries - earlier.retries) / seconds, 3))
        told.lag_records.append(later.lag_records)
        told.p50_seconds.append(latency.p50_seconds)
        told.p95_seconds.append(latency.p95_seconds)
        told.p99_seconds.append(latency.p99_seconds)
    return told
