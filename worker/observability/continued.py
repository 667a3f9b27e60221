"""Counters of several processes as if each had lived all the time: what the status page takes the difference of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

Collect = Callable[[], Iterable[Family]]
"""Gives the families of one scrape."""
Key = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""


class Continued:
    """Families whose counters and histograms never fall. Thread-safe; one collection at a time.

    A process that was started again counts from 0 anew: what it had counted before is added. While one does not answer,
    its last counts stay. Prometheus' rate() does the same for each series; a sum over processes has no such series."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._lock = Lock()
        self._families: dict[str, Family] = {}
        """Counters and histograms, each with its latest samples, the sums."""
        self._counts: dict[Key, tuple[float, float]] = {}
        """What was counted in former lives, and in this one."""

    def collect(self) -> list[Family]:
        """All families of now, with such counts."""
        with self._lock:
            others = []
            for family in self._collect():
                if family.type in ("counter", "histogram"):
                    self._take(family)
                else:
                    others.append(family)
            return [*others, *self._families.values()]

    def _take(self, family: Family) -> None:
        known = self._families.get(family.name)
        samples = {} if known is None else {_key(sample): sample for sample in known.samples}
        samples |= {_key(sample): self._continued(sample) for sample in family.samples}
        # A new one, since whoever has the last may still read it.
        whole = self._families[family.name] = Family(family.name, family.documentation, family.type)
        whole.samples = list(samples.values())

    def _continued(self, sample: Sample) -> Sample:
        former, latest = self._counts.get(_key(sample), (0.0, 0.0))
        if sample.value < latest:
            former += latest
        self._counts[_key(sample)] = (former, sample.value)
        return sample._replace(value=former + sample.value)


def _key(sample: Sample) -> Key:
    return sample.name, frozenset(sample.labels.items())
