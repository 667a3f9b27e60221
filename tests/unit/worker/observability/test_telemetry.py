from __future__ import annotations

import io
import logging
import math
import threading
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.support.events import everything_happens
from tests.unit.conftest import lines
from worker.observability import logs, metrics
from worker.observability.instruments import MAX_SERIES, BulkHistogram
from worker.observability.telemetry import Telemetry
from worker.ports import Events
from worker.records import Partition, Reason, Retry
from worker.testing import ManualClock, served

A, B, C = (Partition("reviews", number) for number in range(3))


class Worker:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = CollectorRegistry()
        self.telemetry = Telemetry(self.registry, self.clock)
        self.events: Events = self.telemetry

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def worker(log: io.StringIO) -> Worker:
    return Worker()


# --- the catalogue ---------------------------------------------------------------------------------------------------


def test_the_scrape_holds_the_catalogue_and_nothing_else(worker: Worker) -> None:
    everything_happens(worker.events)
    scraped = {sample.name for family in worker.registry.collect() for sample in family.samples}
    ours = {name for name in scraped if not name.startswith("process_")}
    assert ours == {name for metric in metrics.CATALOGUE for name in metric.samples}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"} <= scraped


def test_scraped_types_labels_and_help_are_those_of_the_catalogue(worker: Worker) -> None:
    everything_happens(worker.events)
    families = {family.name: family for family in worker.registry.collect()}
    for metric in metrics.CATALOGUE:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), sample
        if metric.kind == "histogram":
            edges = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
            assert {float(edge) for edge in edges} == {*metric.buckets, math.inf}


def test_openmetrics_accepts_the_scrape(worker: Worker) -> None:
    everything_happens(worker.events)
    text = generate_openmetrics(worker.registry).decode()  # type: ignore[no-untyped-call]
    families = list(parse_openmetrics(text))  # type: ignore[no-untyped-call]
    assert len(families) == len(list(worker.registry.collect()))


def test_names_follow_the_conventions() -> None:
    names = [metric.name for metric in metrics.CATALOGUE]
    assert len(set(names)) == len(names)
    for metric in metrics.CATALOGUE:
        assert metric.name.startswith("inferry_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not metric.name.endswith(("_milliseconds", "_ms", "_kb", "_percent")), metric.name
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert metric.help.endswith(".")


def test_the_metrics_page_is_generated() -> None:
    page = Path(__file__).parents[4] / "deploy" / "prometheus" / "METRICS.md"
    assert page.read_text(encoding="utf-8") == metrics.metrics_page(), "run `python -m tests.support.readme`"
    for metric in metrics.CATALOGUE:
        assert f"| `{metric.name}` | {metric.kind} |" in metrics.metrics_table()


# --- what is counted -------------------------------------------------------------------------------------------------


def test_counts_what_happened(worker: Worker) -> None:
    everything_happens(worker.events)
    assert worker.value("inferry_records_total") == 4
    assert worker.value("inferry_record_bytes_total") == 4_000
    assert worker.value("inferry_tokens_total", kind="real") == 900
    assert worker.value("inferry_tokens_total", kind="padding") == 100
    assert worker.value("inferry_batch_fill_ratio_sum") == pytest.approx(0.9)
    assert worker.value("inferry_batch_rows_sum") == 3
    assert worker.value("inferry_reviews_truncated_total") == 1
    assert worker.value("inferry_results_total", label="positive") == 2
    assert worker.value("inferry_dead_letters_total", reason="malformed") == 1
    assert worker.value("inferry_predict_duration_seconds_count", status="UNAVAILABLE") == 1
    assert worker.value("inferry_retries_total", what="predict", status="UNAVAILABLE") == 1
    assert worker.value("inferry_end_to_end_latency_seconds_count") == 4
    assert worker.value("inferry_stage_duration_seconds_sum", stage="deliver") == pytest.approx(0.02)
    assert worker.value("inferry_dropped_windows_total") == 1
    assert worker.value("inferry_shadow_agreements_total") == 2
    assert worker.value("inferry_shadow_score_difference_sum") == pytest.approx(0.32)


def test_the_summary_adds_up_what_was_delivered(worker: Worker) -> None:
    assert worker.telemetry.summary() == {"results": {}, "dead_letters": {}}
    worker.events.delivered(0.1, {"positive": 2, "negative": 1}, {"empty": 1}, [])
    worker.events.delivered(0.1, {"positive": 3}, {}, [])
    assert worker.telemetry.summary() == {"results": {"positive": 5, "negative": 1}, "dead_letters": {"empty": 1}}


def test_counters_start_at_zero_so_that_rates_see_the_first_event(worker: Worker) -> None:
    for reason in Reason:
        assert worker.value("inferry_dead_letters_total", reason=reason.value) == 0
    worker.events.serving(served())
    assert worker.value("inferry_results_total", label="negative") == 0


def test_series_of_revoked_partitions_are_gone(worker: Worker) -> None:
    worker.events.lag({A: 5, B: 7})
    worker.events.lag({B: 6})
    assert worker.value("inferry_lag_records", topic="reviews", partition="0") is None
    assert worker.value("inferry_lag_records", topic="reviews", partition="1") == 6


def test_lag_is_a_copy_of_what_was_said(worker: Worker) -> None:
    mapping = {A: 5}
    worker.events.lag(mapping)
    mapping[B] = 1
    assert worker.value("inferry_lag_records", topic="reviews", partition="1") is None


def test_only_the_version_in_use_is_shown(worker: Worker) -> None:
    worker.events.serving(served(1))
    worker.events.serving(served(2))
    assert worker.value("inferry_model_info", model="fake", version="1", digest="sha256:1") is None
    assert worker.value("inferry_model_info", model="fake", version="2", digest="sha256:2") == 1
    assert worker.value("inferry_model_available") == 1
    worker.events.serving(None)
    assert worker.value("inferry_model_available") == 0
    assert b"inferry_model_info{" not in generate_latest(worker.registry)


def test_exactly_one_state_is_on(worker: Worker) -> None:
    for state in (*metrics.STATES, "running", "holding", "running"):
        worker.events.state(state)
        assert {name: worker.value("inferry_state", state=name) for name in metrics.STATES} == {
            name: float(name == state) for name in metrics.STATES
        }


def test_labels_stay_bounded_whatever_comes(worker: Worker) -> None:
    for number in range(10 * MAX_SERIES):
        worker.events.delivered(0.1, {f"label-{number}": 1}, {}, [])
    family = next(f for f in worker.registry.collect() if f.name == "inferry_results")
    assert len(family.samples) <= MAX_SERIES + 1
    assert sum(sample.value for sample in family.samples) == 10 * MAX_SERIES
    assert worker.value("inferry_results_total", label="other") == 9 * MAX_SERIES


# --- bulk histograms -------------------------------------------------------------------------------------------------


def bulk() -> tuple[BulkHistogram, CollectorRegistry]:
    registry = CollectorRegistry()
    return BulkHistogram(metrics.LATENCY_SECONDS, registry), registry


@given(st.lists(st.lists(st.floats(min_value=-10, max_value=1e6) | st.sampled_from(metrics.LATENCY_SECONDS.buckets))))
def test_bulk_counting_equals_counting_one_by_one(windows: list[list[float]]) -> None:
    histogram, registry = bulk()
    for window in windows:
        histogram.observe_all(window)
    values = [value for window in windows for value in window]
    edges = [*metrics.LATENCY_SECONDS.buckets, math.inf]
    one_by_one = [0] * len(edges)
    for value in values:
        one_by_one[bisect_left(edges, value)] += 1
    family = next(iter(registry.collect()))
    cumulated = [sample.value for sample in family.samples if "le" in sample.labels]
    assert cumulated == [sum(one_by_one[: index + 1]) for index in range(len(edges))]
    assert registry.get_sample_value("inferry_end_to_end_latency_seconds_count") == len(values)
    assert registry.get_sample_value("inferry_end_to_end_latency_seconds_sum") == pytest.approx(
        math.fsum(max(value, 0.0) for value in values)
    )


def test_bulk_leaves_nan_out() -> None:
    histogram, registry = bulk()
    histogram.observe_all([0.2, math.nan, 3.0, math.nan, 0.1])
    assert registry.get_sample_value("inferry_end_to_end_latency_seconds_count") == 3
    assert registry.get_sample_value("inferry_end_to_end_latency_seconds_sum") == pytest.approx(3.3)


def test_bulk_loses_nothing_between_threads() -> None:
    histogram, registry = bulk()

    def observe() -> None:
        for _ in range(500):
            histogram.observe_all([0.001, 1.0, 99_999.0])

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        samples = [s.value for s in next(iter(registry.collect())).samples if "le" in s.labels]
        assert samples == sorted(samples)
        assert samples[-1] % 3 == 0
    for thread in threads:
        thread.join()
    assert registry.get_sample_value("inferry_end_to_end_latency_seconds_count") == 6_000


# --- liveness and readiness ------------------------------------------------------------------------------------------


def test_an_idle_worker_never_stalls(worker: Worker) -> None:
    worker.events.state("running")
    worker.events.lag({A: 0})
    worker.clock.advance(10_000)
    worker.events.lag({A: 0})
    assert worker.telemetry.stalled(60) is None


def test_lag_without_delivery_is_a_stall(worker: Worker) -> None:
    worker.events.state("running")
    worker.events.lag({A: 5, B: 0})
    worker.clock.advance(61)
    said = worker.telemetry.stalled(60)
    assert said is not None
    assert "reviews/0" in said
    assert "61 s" in said
    worker.events.delivered(0.1, {"positive": 1}, {}, [])
    assert worker.telemetry.stalled(60) is None


def test_one_stuck_partition_is_seen_beside_busy_ones(worker: Worker) -> None:
    worker.events.state("running")
    worker.events.lag({A: 5, B: 5})
    for _ in range(7):
        worker.clock.advance(10)
        worker.telemetry.delivered(0.1, {"positive": 1}, {}, [], partitions=[B])
        worker.events.lag({A: 5, B: 5})
    said = worker.telemetry.stalled(60)
    assert said is not None
    assert "reviews/0 has" in said


def test_each_partition_says_how_long_its_records_have_waited(worker: Worker) -> None:
    worker.events.state("running")
    worker.events.lag({A: 5, B: 5, C: 0})
    worker.clock.advance(10)
    worker.telemetry.delivered(0.1, {"positive": 1}, {}, [], partitions=[B])
    worker.clock.advance(5)
    # Counted when it is scraped: a reader that hangs does not stop it.
    waited = [worker.value("inferry_undelivered_seconds", topic=p.topic, partition=str(p.partition)) for p in (A, B, C)]
    assert waited == [15, 5, 0]
    worker.events.lag({B: 5})
    assert worker.value("inferry_undelivered_seconds", topic="reviews", partition="0") is None, "not ours any more"


def test_waiting_counts_from_when_the_lag_appeared_or_the_partition_came(worker: Worker) -> None:
    worker.events.state("running")
    worker.events.lag({A: 0})
    worker.clock.advance(1_000)
    worker.events.lag({A: 1, B: 1})
    assert worker.telemetry.stalled(60) is None
    worker.clock.advance(61)
    worker.events.lag({B: 1})
    assert "reviews/1" in str(worker.telemetry.stalled(60))


def test_a_window_that_is_never_delivered_is_a_stall_even_without_lag(worker: Worker) -> None:
    worker.events.state("running")
    worker.events.in_flight(1)
    worker.clock.advance(61)
    assert "in flight" in str(worker.telemetry.stalled(60))
    worker.events.in_flight(0)
    assert worker.telemetry.stalled(60) is None


@pytest.mark.parametrize("state", ["starting", "holding", "draining"])
def test_an_outage_is_no_stall_and_counting_starts_anew_after_it(worker: Worker, state: str) -> None:
    worker.events.state("running")
    worker.events.lag({A: 5})
    worker.events.in_flight(2)
    worker.events.state(state)
    worker.clock.advance(3_600)
    assert worker.telemetry.stalled(60) is None
    worker.events.state("running")
    assert worker.telemetry.stalled(60) is None
    worker.clock.advance(61)
    assert worker.telemetry.stalled(60) is not None


def test_readiness_says_why_not(worker: Worker) -> None:
    assert "starting" in str(worker.telemetry.unready())
    worker.events.state("running")
    assert "model" in str(worker.telemetry.unready())
    worker.events.serving(served())
    assert worker.telemetry.unready() is None
    worker.events.state("holding", "the model server is away")
    assert worker.telemetry.unready() == "The worker is holding: the model server is away"
    worker.events.state("running")
    worker.events.serving(None)
    assert worker.telemetry.unready() is not None


# --- logs ------------------------------------------------------------------------------------------------------------


def test_an_outage_logs_a_line_now_and_then_and_counts_everything(worker: Worker, log: io.StringIO) -> None:
    for attempt in range(1_000):
        worker.events.retrying(Retry("predict", "UNAVAILABLE", attempt, 0.1, "the server is away"))
        worker.events.state("holding", "the server is away")
        worker.clock.advance(0.1)
    said = [line for line in lines(log) if line["event"] == "trying again"]
    assert 9 <= len(said) <= 11
    assert said[1]["left_out"] == 100
    assert [line["event"] for line in lines(log)].count("holding") == 1
    assert worker.value("inferry_retries_total", what="predict", status="UNAVAILABLE") == 1_000


def test_assignments_are_logged_when_they_change(worker: Worker, log: io.StringIO) -> None:
    for _ in range(5):
        worker.events.lag({A: 1, B: 2})
    worker.events.lag({B: 2})
    said = [(line["gained"], line["lost"]) for line in lines(log) if line["event"] == "partitions changed"]
    assert said == [(["reviews/0", "reviews/1"], []), ([], ["reviews/0"])]


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    worker = Worker()
    stream.close()
    everything_happens(worker.events)
    logging.getLogger("kafka").error("away")
    assert worker.value("inferry_records_total") == 4
