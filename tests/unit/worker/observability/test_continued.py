"""Counts that go on whatever becomes of the process that counts."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from worker.observability.continued import Continued


class Counting:
    """What each process counts and measures now; one that is missing does not answer."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        self.continued = Continued(self.collect)

    def collect(self) -> Iterator[Metric]:
        if not self.counts:
            return
        counter = CounterMetricFamily("things", "Things.", labels=["process"])
        gauge = GaugeMetricFamily("now", "Now.", labels=["process"])
        histogram = HistogramMetricFamily("sizes", "Sizes.", labels=["process"])
        for process, count in self.counts.items():
            counter.add_metric([process], count)
            gauge.add_metric([process], count)
            histogram.add_metric([process], [("1", count / 2), ("+Inf", count)], count)
        yield from (counter, gauge, histogram)

    def seen(self, name: str, **counts: float) -> dict[str, float]:
        self.counts = counts
        samples = [sample for family in self.continued.collect() for sample in family.samples]
        return {
            sample.labels["process"]: sample.value
            for sample in samples
            if sample.name == name and sample.labels.get("le", "+Inf") == "+Inf"
        }


def test_what_a_former_life_counted_is_added() -> None:
    counting = Counting()
    assert counting.seen("things_total", a=10, b=100) == {"a": 10, "b": 100}
    assert counting.seen("things_total", a=2, b=110) == {"a": 12, "b": 110}
    assert counting.seen("things_total", a=3, b=120) == {"a": 13, "b": 120}
    assert counting.seen("things_total", a=0, b=0) == {"a": 13, "b": 120}
    assert counting.seen("things_total", a=1, b=1) == {"a": 14, "b": 121}


def test_while_one_does_not_answer_its_counts_stay() -> None:
    counting = Counting()
    counting.seen("things_total", a=10, b=100)
    assert counting.seen("things_total", b=110) == {"a": 10, "b": 110}
    assert counting.seen("things_total") == {"a": 10, "b": 110}
    assert counting.seen("things_total", a=11, b=111) == {"a": 11, "b": 111}


def test_histograms_go_on_and_gauges_are_those_of_now() -> None:
    counting = Counting()
    counting.seen("now", a=10, b=100)
    assert counting.seen("sizes_bucket", a=4) == {"a": 14, "b": 100}
    assert counting.seen("now", a=5) == {"a": 5}


def test_what_was_given_before_does_not_change() -> None:
    counting = Counting()
    counting.counts = {"a": 1}
    [before] = [family for family in counting.continued.collect() if family.name == "things"]
    counting.seen("things_total", a=2)
    assert before.samples[0].value == 1
