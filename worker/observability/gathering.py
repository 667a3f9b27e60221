"""Several workers behind one port: their metrics with a label `process`, and the probes of the whole.

Each process is asked anew for each request, all at once and with a time limit: a process that hangs is told as down and
delays nobody for longer."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from worker.observability import metrics

LABEL = "process"
SUPERVISOR = "supervisor"
"""The label's value for the parent's own CPU and memory."""
ASK_SECONDS = 2.0
"""How long a process may take to answer: within the 5 s that probes and scrapes commonly have."""


class ProcessStatus(NamedTuple):
    """What the parent knows of one process."""

    name: str
    port: int | None
    """Where it serves its metrics and probes on the loopback; None while it does not."""
    restarts: int
    what: str
    """For a sentence that begins with its name: `is starting`."""
    finished: bool = False
    """Whether it has done its part of a bounded run."""


class Answer(NamedTuple):
    """What a process answered."""

    status: int
    """HTTP status; 0 when nothing came in time."""
    body: str


NO_ANSWER = Answer(0, "")
Ask = Callable[[int, str], Answer]


def ask(port: int, path: str) -> Answer:
    """Asks a port of this machine's loopback. Blocks up to `ASK_SECONDS` for the connection and as long for the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return Answer(reply.status, reply.read().decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException):
        return NO_ANSWER
    finally:
        connection.close()


class Gathering(Collector):
    """The metrics and probes of all processes. Thread-safe as long as `statuses` is, which gives all processes in order."""

    def __init__(self, statuses: Callable[[], Sequence[ProcessStatus]], ask: Ask = ask) -> None:
        self._statuses = statuses
        self._ask = ask
        self._own = ProcessCollector(registry=None)
        self.registry = CollectorRegistry()
        """Each of its scrapes asks every process."""
        self.registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """For the registry, which would ask every process otherwise."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """For the registry: one scrape. A family stands once, whichever processes have it."""
        up = GaugeMetricFamily(metrics.PROCESS_UP.name, metrics.PROCESS_UP.help, labels=[LABEL])
        restarts = CounterMetricFamily(metrics.PROCESS_RESTARTS.name, metrics.PROCESS_RESTARTS.help, labels=[LABEL])
        families: dict[str, Metric] = {}
        _merge(families, SUPERVISOR, self._own.collect())
        for process, answer in self._answers("/metrics"):
            found = _parsed(answer)
            _merge(families, process.name, found)
            up.add_metric([process.name], float(bool(found)))
            restarts.add_metric([process.name], process.restarts)
        yield from (*families.values(), up, restarts)

    def dead(self) -> str | None:
        """For /livez: which processes get nowhere or do not answer, or None. One that is being started is not among them."""
        return _sentence(
            f"process {process.name} {_complaint(answer)}"
            for process, answer in self._answers("/livez")
            if process.port is not None and answer.status != 200 and self._is_still(process)
        )

    def unready(self) -> str | None:
        """For /readyz: which processes do not answer reviews now, and why; None when all do, or have finished."""
        return _sentence(
            f"process {process.name} {process.what if process.port is None else _complaint(answer)}"
            for process, answer in self._answers("/readyz")
            if answer.status != 200 and not process.finished
        )

    def _answers(self, path: str) -> list[tuple[ProcessStatus, Answer]]:
        processes = self._statuses()
        with ThreadPoolExecutor(len(processes), "ask") as asking:
            answers = asking.map(lambda port: NO_ANSWER if port is None else self._ask(port, path), _ports(processes))
            return list(zip(processes, answers, strict=True))

    def _is_still(self, process: ProcessStatus) -> bool:
        """Whether it still serves where it was asked: one that has just ended is the parent's to start again."""
        return any(now.name == process.name and now.port == process.port for now in self._statuses())


def _ports(processes: Sequence[ProcessStatus]) -> list[int | None]:
    return [process.port for process in processes]


def _parsed(answer: Answer) -> list[Metric]:
    """The families of a scrape in the text format 0.0.4; none where it failed or is cut off."""
    if answer.status != 200:
        return []
    try:
        return list(text_string_to_metric_families(answer.body))
    except ValueError:
        return []


def _merge(families: dict[str, Metric], process: str, found: Iterable[Metric]) -> None:
    for family in found:
        whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        whole.samples += [_labelled(sample, process) for sample in family.samples]


def _labelled(sample: Sample, process: str) -> Sample:
    return sample._replace(labels={LABEL: process, **sample.labels})


def _complaint(answer: Answer) -> str:
    if answer.status == 0:
        return f"does not answer within {ASK_SECONDS:g} s"
    return f"says: {answer.body.strip()}"


def _sentence(complaints: Iterator[str]) -> str | None:
    return "; ".join(complaints) or None
