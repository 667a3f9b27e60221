"""The routes of the status page, for the server that answers /metrics and the probes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any, NamedTuple

import msgspec
from prometheus_client.metrics_core import Metric as Family

from worker.observability import metrics
from worker.observability.health import Answer, Check, Route
from worker.observability.logs import redact
from worker.observability.metrics import Metric
from worker.observability.status.document import Duration, Model, PartitionLag, Requests, Retries, Status
from worker.observability.status.history import DURATIONS, Ring, Sample, before, history, quantiles, sample, state_of
from worker.observability.status.page import HEADERS, PAGE
from worker.observability.status.reading import Reading, between
from worker.observability.version import own_version, version_of
from worker.ports import Clock

WINDOW_SECONDS = 60.0
"""How far rates and quantiles look back."""
LIBRARIES = (
    "confluent-kafka",
    "grpcio",
    "kafka-python",
    "msgspec",
    "opentelemetry-sdk",
    "prometheus-client",
    "protobuf",
)
"""Those of extras are told where they are installed."""


class About(NamedTuple):
    """What is true of a worker from its start to its end."""

    settings: Mapping[str, Any]
    """By name, redacted."""
    versions: Mapping[str, str]
    """Of Inferry, Python and the libraries."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> About:
        """These settings, which must be redacted, and the versions of what is installed here. Texts are searched for
        secrets as log lines are."""
        shown = {name: redact(value) if isinstance(value, str) else value for name, value in settings.items()}
        libraries = {name: found for name in LIBRARIES if (found := version_of(name)) is not None}
        return cls(shown, {"python": platform.python_version(), "inferry": own_version(), **libraries})


class StatusPage:
    """The page of one worker, or of several whose families `collect` gives together. Thread-safe.

    `collect` gives the families that /metrics serves; `live` and `ready` are the checks behind the probes. Somebody has to
    call `tick` at least every few seconds: the history is made of what it finds."""

    def __init__(
        self, collect: Callable[[], Iterable[Family]], about: About, *, live: Check, ready: Check, clock: Clock
    ) -> None:
        self._collect = collect
        self._about = about
        self._live = live
        self._ready = ready
        self._clock = clock
        self._started_seconds = clock.time()
        self._ring = Ring()
        self.tick()
        self.routes: Mapping[str, Route] = {
            "/": lambda _accept: Answer(HTTPStatus.OK, "text/html; charset=utf-8", PAGE, HEADERS),
            "/status.json": lambda _accept: _json(self.status()),
            "/readme": lambda _accept: Answer(HTTPStatus.OK, "text/plain; charset=utf-8", _readme(), HEADERS),
        }

    def tick(self) -> None:
        """Takes a sample where one is due. Cheap otherwise; never blocks."""
        now = self._clock.monotonic()
        if self._ring.due(now):
            self._ring.add(sample(Reading(self._collect()), now))

    def status(self) -> Status:
        """Everything the page shows, now."""
        reading = Reading(self._collect())
        now = self._clock.monotonic()
        current = sample(reading, now)
        samples = self._ring.samples()
        earlier = before(samples, now, WINDOW_SECONDS)
        seconds = max(now - earlier.monotonic_seconds, 1e-9)
        return Status(
            time_seconds=self._clock.time(),
            started_seconds=self._started_seconds,
            state=state_of(reading),
            unready=self._ready(),
            stalled=self._live(),
            model=_model(reading),
            encoder=reading.info(metrics.ENCODER_INFO).get("encoder", ""),
            window_seconds=round(seconds, 3),
            reviews_per_second=(current.answers - earlier.answers) / seconds,
            dead_letters_per_second=(current.dead_letters - earlier.dead_letters) / seconds,
            retries_per_second=(current.retries - earlier.retries) / seconds,
            durations=_durations(earlier, current),
            lag=_lag(reading),
            results=_counts(reading, metrics.RESULTS),
            dead_letters=_counts(reading, metrics.DEAD_LETTERS),
            retries=_retries(reading),
            dropped_windows=int(reading.total(metrics.DROPPED_WINDOWS)),
            windows_in_flight=int(reading.total(metrics.WINDOWS_IN_FLIGHT)),
            requests=Requests(
                in_flight=int(reading.total(metrics.REQUESTS_IN_FLIGHT)),
                limit=int(reading.total(metrics.REQUESTS_LIMIT)),
            ),
            history=history(samples, now),
            settings=dict(self._about.settings),
            versions=dict(self._about.versions),
        )


def _durations(earlier: Sample, current: Sample) -> dict[str, Duration]:
    return {
        name: Duration(
            last_minute=quantiles(name, between(earlier.buckets[name], current.buckets[name])),
            since_start=quantiles(name, current.buckets[name]),
        )
        for name in DURATIONS
    }


def _model(reading: Reading) -> Model | None:
    found = reading.info(metrics.MODEL_INFO)
    return Model(name=found["model"], version=found["version"], digest=found["digest"]) if found else None


def _lag(reading: Reading) -> list[PartitionLag]:
    waited = reading.by_labels(metrics.UNDELIVERED_SECONDS)
    held = [
        PartitionLag(
            topic=topic,
            partition=int(number),
            records=int(records),
            undelivered_seconds=round(waited.get((topic, number), 0.0), 3),
        )
        for (topic, number), records in reading.by_labels(metrics.LAG).items()
    ]
    return sorted(held, key=lambda each: (each.topic, each.partition))


def _retries(reading: Reading) -> list[Retries]:
    found = reading.by_labels(metrics.RETRIES)
    return [Retries(what=what, status=status, count=int(count)) for (what, status), count in found.items()]


def _counts(reading: Reading, metric: Metric) -> dict[str, int]:
    return {label: int(count) for (label,), count in reading.by_labels(metric).items()}


def _json(status: Status) -> Answer:
    return Answer(HTTPStatus.OK, "application/json", msgspec.json.encode(status), HEADERS)


def _readme() -> bytes:
    """The README that was installed with this very version."""
    try:
        return str(metadata("inferry").get_payload()).encode()  # type: ignore[attr-defined]  # an email.Message
    except PackageNotFoundError:
        return b"Inferry was not installed here as a package; its README.md stands in the checkout that it runs from.\n"
