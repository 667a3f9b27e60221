"""Traces, as a collector gets them: the pipeline over fakes, the spans over real OTLP."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from protos.codecs import ReviewMessage
from tests.support.otlp import PRODUCER_SPAN, TRACE, Collector, Found, traceparent
from worker.backoff import Backoff
from worker.errors import Cause, ConfigError, DeliveryFailed, InvalidReview, ServingUnavailable
from worker.observability import Telemetry, open_tracing
from worker.observability.logs import configure
from worker.observability.tracing import exporting, opening
from worker.observability.tracing.spans import MAX_LINKS
from worker.pipeline import Options, assemble
from worker.pipeline.batching import Limits
from worker.ports import Tracing
from worker.records import Headers, Reason, Record
from worker.settings import Settings
from worker.state import WorkerState
from worker.testing import FakeDelivery, FakeModel, FakeSource, ManualClock, RecordingEvents
from worker.untraced import Untraced

MANY = 3
OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c"


def record(offset: int, text: str = "good", headers: Headers = ()) -> Record:
    return Record("reviews", 0, offset, 1_000_000_000, b"a key", text.encode(), headers)


def traced(offset: int, text: str = "good", *, trace: str = TRACE, sampled: bool = True) -> Record:
    return record(offset, text, [("traceparent", traceparent(trace, sampled=sampled)), ("tracestate", b"vendor=1")])


def decode(record: Record) -> ReviewMessage:
    if record.value == b"BAD":
        raise InvalidReview(Reason.MALFORMED, "it says BAD")
    return ReviewMessage(record.result_id, (record.value or b"").decode())


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    for name, value in collector.environment.items():
        monkeypatch.setenv(name, value)
    yield collector
    collector.stop()


class Run:
    """One run over some records; its spans are all there once it is over."""

    def __init__(self, records: Sequence[Record], tracing: Tracing | None = None, **prepared: Any) -> None:
        self.source = FakeSource(records)
        self.delivery = FakeDelivery(self.source)
        self.model = FakeModel()
        for name, value in prepared.items():
            setattr(self.delivery if hasattr(self.delivery, name) else self.model, name, value)
        events = prepared.get("events") or RecordingEvents()
        tracing = tracing or open_tracing(Settings())
        pipeline = assemble(
            self.source,
            self.model,
            self.delivery,
            Options(
                decode=decode,
                window_records=10,
                max_windows=3,
                batch_limits=Limits(rows=4, tokens=1000, padding_tokens=1000),
                backoff=Backoff(0.1, 5.0),
                max_strikes=3,
                dead_letter_share=1.0,
                dead_letter_run=0,
                drain_seconds=10.0,
            ),
            state=WorkerState(events.state),
            events=events,
            clock=ManualClock(),
            abandon=Event(),
            tracing=tracing,
        )
        assert pipeline.run().drained
        tracing.close()

    def context(self, result_id: str) -> dict[str, bytes]:
        [window] = [w for w in self.delivery.windows if any(r.result_id == result_id for r in w.records)]
        return dict(window.contexts.get(result_id, ()))


def windows(collector: Collector) -> list[Found]:
    return [span for span in collector.named("process") if not span.parent]


def reviews(collector: Collector) -> list[Found]:
    return [span for span in collector.named("process") if span.parent]


def test_a_window_has_spans_for_its_encoding_its_calls_and_its_delivery(collector: Collector) -> None:
    Run([record(offset) for offset in range(6)])
    [window] = windows(collector)
    assert (window.name, window.kind) == ("process reviews", "CONSUMER")
    assert window.attributes["messaging.system"] == "kafka"
    assert window.attributes["messaging.operation.type"] == "process"
    assert window.attributes["messaging.consumer.group.name"] == "inferry-worker"
    assert window.attributes["messaging.batch.message_count"] == 6
    assert window.resource["service.name"] == "inferry-worker"
    [encode], [send] = collector.named("encode"), collector.named("send")
    calls = collector.named("tensorflow.serving")
    assert {span.parent for span in (encode, send, *calls)} == {window.span}
    assert {span.trace for span in (encode, send, *calls)} == {window.trace}
    assert sorted(call.attributes["inferry.rows"] for call in calls) == [2, 4]
    assert {call.kind for call in calls} == {"CLIENT"}
    assert {call.attributes["rpc.response.status_code"] for call in calls} == {"OK"}
    assert (send.name, send.kind) == ("send review-labels", "PRODUCER")
    assert send.attributes["messaging.batch.message_count"] == 6
    assert not any(span.failed for span in (window, encode, send, *calls))


def test_a_review_s_trace_goes_on_from_its_producer_to_its_result(collector: Collector) -> None:
    run = Run([record(0), traced(1), traced(2, "bad", trace=OTHER_TRACE)])
    [window] = windows(collector)
    assert window.links == [(TRACE, PRODUCER_SPAN), (OTHER_TRACE, PRODUCER_SPAN)]
    by_offset = {span.attributes["messaging.kafka.offset"]: span for span in reviews(collector)}
    assert set(by_offset) == {1, 2}, "a review without a context has no span of its own"
    review = by_offset[1]
    assert (review.trace, review.parent) == (TRACE, PRODUCER_SPAN)
    assert review.links == [(window.trace, window.span)]
    assert (review.attributes["inferry.label"], review.attributes["inferry.score"]) == ("positive", 0.9)
    assert by_offset[2].attributes["inferry.label"] == "negative"
    assert run.context("reviews/0/0") == {}
    assert run.context("reviews/0/1") == {"traceparent": review.traceparent, "tracestate": b"vendor=1"}
    assert run.context("reviews/0/2")["traceparent"] == by_offset[2].traceparent


def test_no_span_holds_a_review_s_text_or_key(collector: Collector) -> None:
    Run([traced(0, "a secret diary"), traced(1, "BAD")])
    told = repr([collector.named("")])
    assert len(collector.named("")) >= MANY
    assert "secret diary" not in told
    assert "a key" not in told


def test_a_review_s_trace_is_whole_through_a_retry_and_the_failed_call_is_seen(collector: Collector) -> None:
    failures = [ServingUnavailable("away", Cause.AWAY, status="GONE_FISHING")]
    run = Run([traced(0)], fail=lambda _texts: failures.pop() if failures else None)
    [window], [review] = windows(collector), reviews(collector)
    failed, well = collector.named("tensorflow.serving")
    assert (failed.failed, failed.attributes["error.type"]) == (True, "GONE_FISHING")
    assert not well.failed
    assert {failed.parent, well.parent} == {window.span}
    [(name, attributes)] = window.events
    assert (name, attributes["inferry.retry.what"], attributes["error.type"]) == ("retry", "predict", "GONE_FISHING")
    assert run.context("reviews/0/0")["traceparent"] == review.traceparent


def test_a_dead_letter_goes_on_with_the_trace_and_its_span_says_why(collector: Collector) -> None:
    run = Run([traced(0, "BAD"), traced(1)])
    dead, well = sorted(reviews(collector), key=lambda span: span.attributes["messaging.kafka.offset"])
    assert (dead.failed, dead.attributes["inferry.dead_letter.reason"]) == (True, "malformed")
    assert not well.failed
    assert run.context("reviews/0/0")["traceparent"] == dead.traceparent
    [send] = collector.named("send")
    assert send.attributes["inferry.dead_letters"] == 1


def test_a_result_that_became_a_dead_letter_at_its_delivery_is_told_as_one(collector: Collector) -> None:
    Run([traced(0)], refuses=lambda _result: True)
    [review] = reviews(collector)
    assert (review.failed, review.attributes["inferry.dead_letter.reason"]) == (True, "result-too-large")


def test_a_window_that_is_dropped_says_so_and_the_review_has_another_span(collector: Collector) -> None:
    run = Run([traced(0)], failures=[DeliveryFailed("the broker said password=hunter2")])
    first, second = windows(collector)
    assert (first.failed, second.failed) == (True, False)
    assert first.attributes["inferry.dropped"] == "the broker said password=***"
    dropped, delivered = reviews(collector)
    assert (dropped.failed, delivered.failed) == (True, False)
    assert (dropped.parent, delivered.parent) == (PRODUCER_SPAN, PRODUCER_SPAN)
    assert run.context("reviews/0/0")["traceparent"] == delivered.traceparent


def test_a_producer_that_does_not_sample_gets_no_span(collector: Collector) -> None:
    run = Run([traced(0, sampled=False)])
    assert reviews(collector) == []
    assert run.context("reviews/0/0") == {}, "the context that it came with stays"
    assert len(windows(collector)) == 1


def test_the_standard_sampler_decides_about_windows(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    Run([record(0), traced(1)])
    assert [span.trace for span in collector.named("")] == [TRACE], "the producer has decided for its review"


def test_a_window_links_to_a_bounded_number_of_traces(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "10000")
    tracing = open_tracing(Settings())
    source = FakeSource([traced(offset) for offset in range(MAX_LINKS + 50)], window_records=1000)
    window = source.poll(0)
    assert window is not None
    tracing.polled(window).given_up("a test")
    tracing.close()
    [found] = windows(collector)
    assert len(found.links) == MAX_LINKS


@pytest.mark.parametrize(
    "value",
    [b"", b"00", b"\xff" * 55, traceparent("0" * 32), traceparent(span="0" * 16), traceparent() * 100],
)
def test_a_context_that_is_none_is_left_alone(collector: Collector, value: bytes) -> None:
    run = Run([record(0, headers=[("traceparent", value), ("tracestate", b"a=" + b"x" * 100_000)])])
    assert run.context("reviews/0/0") == {}
    assert windows(collector)[0].links == []


def test_a_tracestate_that_is_too_long_is_dropped_and_the_trace_goes_on(collector: Collector) -> None:
    entries = ",".join(f"vendor{number}={'x' * 200}" for number in range(30))
    headers = [("traceparent", traceparent()), ("tracestate", entries.encode())]
    run = Run([record(0, headers=headers)])
    assert list(run.context("reviews/0/0")) == ["traceparent"]


def test_log_lines_carry_the_ids_of_window_and_trace(collector: Collector, prometheus_registry: Any) -> None:
    out = io.StringIO()
    configure("debug", "json", out)
    Run([record(0)], events=Telemetry(prometheus_registry, ManualClock()))
    lines = {line["event"]: line for line in map(json.loads, out.getvalue().splitlines())}
    [window] = windows(collector)
    for event in ("decoded", "encoded", "delivered"):
        assert (lines[event]["window"], lines[event]["trace_id"]) == (1, window.trace)
    assert "window" not in lines["draining"]


def test_log_lines_carry_the_window_where_nothing_is_traced(prometheus_registry: Any) -> None:
    out = io.StringIO()
    configure("debug", "json", out)
    Run([record(offset) for offset in range(15)], Untraced(), events=Telemetry(prometheus_registry, ManualClock()))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["window"] for line in lines if line["event"] == "delivered"] == [1, 2]
    assert not any("trace_id" in line for line in lines)


@pytest.fixture
def prometheus_registry() -> Iterator[Any]:
    from prometheus_client import CollectorRegistry

    yield CollectorRegistry()
    configure("info", "json")


def test_a_collector_that_hangs_does_not_hold_up_the_worker_s_end(monkeypatch: pytest.MonkeyPatch) -> None:
    released = Event()

    class Hanging(TracerProvider):
        def shutdown(self) -> None:
            released.wait()

    monkeypatch.setattr(exporting, "CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(exporting, "TracerProvider", Hanging)
    tracing = exporting.tracing_over_otlp(Settings())
    tracing.close()  # would never return
    released.set()


# --- whether traces are on -------------------------------------------------------------------------------------------

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("traces", "environment"),
    [
        ("auto", {}),
        ("off", ENDPOINT),
        ("auto", {**ENDPOINT, "OTEL_SDK_DISABLED": "true"}),
        ("on", {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}),
    ],
)
def test_traces_are_off_unless_they_are_asked_for(traces: str, environment: dict[str, str]) -> None:
    assert isinstance(open_tracing(Settings(traces=traces), environment), Untraced)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is zipkin"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "4317"),
    ],
)
def test_what_the_worker_cannot_speak_is_refused_in_a_sentence(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_tracing(Settings(), environment)


def test_a_variable_that_the_sdk_refuses_is_named(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "zip")
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_COMPRESSION"):
        open_tracing(Settings())


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", {}.get)


@pytest.mark.usefixtures("without_the_extra")
def test_traces_that_are_asked_for_without_the_extra_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'inferry\[otel\]'"):
        open_tracing(Settings(traces="on"), {})


@pytest.mark.usefixtures("without_the_extra", "prometheus_registry")
def test_a_variable_without_the_extra_costs_a_warning_and_no_worker() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    assert isinstance(open_tracing(Settings(), ENDPOINT), Untraced)
    [line] = map(json.loads, out.getvalue().splitlines())
    assert line["level"] == "warning"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in line["detail"]
    assert "pip install" in line["detail"]


def test_a_worker_without_traces_never_imports_opentelemetry() -> None:
    program = (
        "import sys, worker.service; from worker.observability import open_tracing; from worker.settings import Settings;"
        "open_tracing(Settings(), {}); sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
