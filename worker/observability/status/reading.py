"""What all metrics were at one moment, and what two such moments say of the time between them."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from prometheus_client.metrics_core import Metric as Family

from worker.observability.metrics import Metric

Buckets: TypeAlias = "array[float]"  # not subscriptable at run time before Python 3.12
"""Cumulated counts of a histogram's buckets in the order of their upper bounds, +Inf last."""


class Reading:
    """The samples of one collection, from a registry or from parsed scrapes. Immutable.

    Series that agree in the labels asked for count together: the families of several workers read as their sum."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
        for family in families:
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def series(self, name: str, **labels: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and value of each sample that has these labels."""
        wanted = labels.items()
        return [(found, value) for found, value in self._samples.get(name, ()) if wanted <= found.items()]

    def total(self, metric: Metric, **labels: str) -> float:
        """The sum of a counter's or gauge's series; 0 where there is none."""
        return sum(value for _, value in self.series(metric.name, **labels))

    def by_labels(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """A counter or gauge by the values of its own labels, in their order; of several workers the sums."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for labels, value in self.series(metric.name):
            sums[tuple(labels[name] for name in metric.labels)] += value
        return dict(sorted(sums.items()))

    def info(self, metric: Metric) -> Mapping[str, str]:
        """The labels of the first series that is 1, as info metrics are; empty where there is none."""
        return next((labels for labels, value in self.series(metric.name) if value == 1), {})

    def buckets(self, metric: Metric, **labels: str) -> Buckets:
        """A histogram's buckets."""
        sums: dict[float, float] = dict.fromkeys((*metric.buckets, float("inf")), 0.0)
        for found, value in self.series(f"{metric.name}_bucket", **labels):
            sums[float(found["le"])] += value
        return array("d", sums.values())


def between(earlier: Buckets, later: Buckets) -> Buckets:
    """The buckets of what was observed between two readings."""
    return array("d", (after - before for before, after in zip(earlier, later, strict=True)))


def quantile(q: float, upper_bounds: Sequence[float], buckets: Buckets) -> float | None:
    """The `q`-quantile of a histogram, linearly interpolated in its bucket as PromQL's histogram_quantile() does; None where
    nothing was observed.

    `upper_bounds` are without +Inf. What lies beyond the highest of them is told as that; the first bucket begins at 0.
    See https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile."""
    observed = buckets[-1]
    if observed <= 0:
        return None
    rank = q * observed
    index = next(index for index, count in enumerate(buckets) if count >= rank)
    if index == len(upper_bounds):
        return upper_bounds[-1]
    low, below = (upper_bounds[index - 1], buckets[index - 1]) if index else (0.0, 0.0)
    inside = buckets[index] - below
    return low + (upper_bounds[index] - low) * ((rank - below) / inside if inside else 1.0)
