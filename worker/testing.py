"""Fakes of every port, shipped with the worker: they pass the same contract suite as the real adapters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock
from typing import Any

from worker.errors import Cause, DeliveryFailed, ModelGone, ServingUnavailable, SourceLost, WorkerError
from worker.ports import CallTrace, ServedModel
from worker.records import DeadLetter, DType, Labelled, Membership, Partition, Reason, Record, Tensor, Window
from worker.state import Phase, WorkerState


class ManualClock:
    """A clock that moves only when it is told to, or when somebody waits on it."""

    def __init__(self, now_seconds: float = 1_000_000.0) -> None:
        self._now = now_seconds
        self.waits: list[float] = []

    def monotonic(self) -> float:
        """Seconds."""
        return self._now

    def time(self) -> float:
        """Seconds since the epoch: the same number."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Moves the clock on."""
        self._now += seconds

    def wait(self, event: Event, seconds: float) -> bool:
        """Never blocks: the time passes at once."""
        self.waits.append(seconds)
        self._now += seconds
        return event.is_set()


class FakeSource:
    """An in-memory topic with committed offsets, read by one member."""

    def __init__(self, records: Sequence[Record] = (), *, window_records: int = 10, bounded: bool = True) -> None:
        self._log: dict[Partition, list[Record]] = defaultdict(list)
        self.committed: dict[Partition, int] = defaultdict(int)
        self._position: dict[Partition, int] = defaultdict(int)
        self._window_records = window_records
        self._bounded = bounded
        self._paused = False
        self._lost = ""
        self.generation = 1
        self.rewinds = 0
        self._lock = Lock()
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Appends to the topic; offsets must come in order."""
        with self._lock:
            self._log[Partition(record.topic, record.partition)].append(record)

    def rebalance(self) -> None:
        """The next poll finds that the assignment has changed."""
        self.generation += 1
        self._lost = f"the group is in generation {self.generation} now"

    def poll(self, timeout_seconds: float) -> Window | None:  # noqa: ARG002  never waits
        """See ports.Source."""
        if self._lost:
            self._lost, why = "", self._lost
            self._reset()
            raise SourceLost(why)
        if self._paused:
            return None
        with self._lock:
            taken: list[Record] = []
            for partition, log in self._log.items():
                start = self._position[partition]
                part = log[start : start + self._window_records - len(taken)]
                self._position[partition] += len(part)
                taken += part
        if not taken:
            return None
        ends = {Partition(record.topic, record.partition): record.offset + 1 for record in taken}
        return Window(taken, ends, membership=Membership(self.generation, "fake"))

    def pause(self) -> None:
        """See ports.Source."""
        self._paused = True

    def resume(self) -> None:
        """See ports.Source."""
        self._paused = False

    def rewind(self) -> None:
        """See ports.Source."""
        self.rewinds += 1
        self._reset()

    def lag(self) -> Mapping[Partition, int]:
        """See ports.Source."""
        return {partition: len(log) - self._position[partition] for partition, log in self._log.items()}

    def finished(self) -> bool:
        """See ports.Source: of a bounded topic, the last record is the last that was added."""
        return self._bounded and all(self._position[partition] >= len(log) for partition, log in self._log.items())

    def close(self) -> None:
        """See ports.Source."""

    def _reset(self) -> None:
        self._position = defaultdict(int, self.committed)


class FakeDelivery:
    """Keeps what is delivered and commits to a FakeSource, fenced by its generation as a broker would."""

    def __init__(self, source: FakeSource) -> None:
        self._source = source
        self.results: list[Labelled] = []
        self.dead_letters: list[DeadLetter] = []
        self.windows: list[Window] = []
        self.failures: list[WorkerError] = []
        """Raised one by one, before anything is published."""
        self.refuses: Callable[[Labelled], bool] = lambda _result: False
        """Which results count as larger than the topic takes."""
        self.closed = False

    def deliver(
        self, window: Window, results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]
    ) -> Sequence[DeadLetter]:
        """See ports.Delivery."""
        if self.failures:
            raise self.failures.pop(0)
        if window.membership.generation != self._source.generation:
            raise DeliveryFailed("fenced: the window is from an older generation")
        self.windows.append(window)
        refused = [DeadLetter(r.record, Reason.RESULT_TOO_LARGE, "", "deliver") for r in results if self.refuses(r)]
        self.results += [result for result in results if not self.refuses(result)]
        self.dead_letters += [*dead_letters, *refused]
        self._source.committed.update(window.next_offsets)
        return refused

    def close(self) -> None:
        """See ports.Delivery."""
        self.closed = True


class WordEncoder:
    """An Encoder whose tokens are words, of which a text has at most `max_tokens`."""

    name = "words"

    def __init__(self, max_tokens: int = 100) -> None:
        self._max_tokens = max_tokens

    def encode_many(self, texts: Sequence[str]) -> WordRows:
        """See ports.Encoder."""
        return WordRows(texts, self._max_tokens)


class WordRows:
    """The Rows of a WordEncoder. Their tensor holds the whole texts, cut or not."""

    def __init__(self, texts: Sequence[str], max_tokens: int) -> None:
        words = [len(text.split()) for text in texts]
        self.tokens: Sequence[int] = [max(1, min(count, max_tokens)) for count in words]
        self._truncated = {index for index, count in enumerate(words) if count > max_tokens}
        self._texts = [text.encode("utf-8", "replace") for text in texts]

    @property
    def truncated(self) -> int:
        """See ports.Rows."""
        return len(self._truncated)

    def is_truncated(self, index: int) -> bool:
        """See ports.Rows."""
        return index in self._truncated

    def tensor(self, indexes: Sequence[int], longest: int) -> Tensor:  # noqa: ARG002  strings are not padded
        """See ports.Rows."""
        return Tensor(DType.TEXT, (len(indexes),), strings=[self._texts[index] for index in indexes])


def running(events: RecordingEvents) -> WorkerState:
    """The state of a worker that runs, telling these events from now on."""
    state = WorkerState(events.state)
    state.enter(Phase.RUNNING)
    events.seen.clear()
    return state


def served(
    version: int = 1, *, labels: tuple[str, ...] = ("negative", "positive"), threshold: float = 0.6
) -> ServedModel:
    """A model version fed by WordEncoder."""
    return ServedModel("fake", version, labels, threshold, WordEncoder(), f"sha256:{version}")


class FakeModel:
    """Answers with `score(text)`, checked as a real reply is: a request with a score outside [0, 1] is a bad reply. Its
    failures are scripted."""

    def __init__(
        self, score: Callable[[str], Sequence[float]] = lambda text: (0.9 if "good" in text else 0.1,)
    ) -> None:
        self.score = score
        self.version: ServedModel | None = served()
        self.fail: Callable[[Sequence[str]], WorkerError | None] = lambda _texts: None
        """Looks at a request's texts; what it returns is raised."""
        self.away: list[WorkerError] = []
        """Raised one by one by probe()."""
        self.requests: list[list[str]] = []
        self.probes = 0

    def current(self) -> ServedModel:
        """See ports.Model."""
        if self.version is None:
            raise ServingUnavailable("no version is available")
        return self.version

    def refresh(self) -> ServedModel:
        """See ports.Model."""
        return self.current()

    def predict(self, served: ServedModel, tensor: Tensor, trace: CallTrace | None = None) -> FakeCall:
        """See ports.Model. The answer is settled when the request is made."""
        call = self._answer(served, tensor)
        if trace is not None:
            trace.sending()
            trace.ended(call.status)
        return call

    def _answer(self, served: ServedModel, tensor: Tensor) -> FakeCall:
        texts = [content.decode() for content in tensor.strings]
        self.requests.append(texts)
        if self.version is None or served.version != self.version.version:
            return FakeCall(ModelGone(f"version {served.version} is not served"))
        scores = [tuple(self.score(text)) for text in texts]
        if not all(0 <= score <= 1 for row in scores for score in row):  # NaN included
            return FakeCall(self.fail(texts) or ServingUnavailable("a score makes no sense", Cause.BAD_REPLY))
        return FakeCall(self.fail(texts) or scores)

    def probe(self) -> None:
        """See ports.Model."""
        self.probes += 1
        if self.away:
            raise self.away.pop(0)

    def close(self) -> None:
        """See ports.Model."""


class FakeCall:
    """A call that has already ended."""

    def __init__(self, outcome: WorkerError | list[tuple[float, ...]]) -> None:
        self._outcome = outcome
        self.status = (
            str(getattr(outcome, "status", type(outcome).__name__)) if isinstance(outcome, WorkerError) else "OK"
        )
        self.cancelled = False

    def result(self) -> Sequence[Sequence[float]]:
        """See ports.Call."""
        if isinstance(self._outcome, WorkerError):
            raise self._outcome
        return self._outcome

    def cancel(self) -> None:
        """See ports.Call."""
        self.cancelled = True


class RecordingEvents:
    """Keeps every event as (name, arguments)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[Any, ...]]] = []

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every event of that name, oldest first."""
        return [arguments for seen, arguments in self.seen if seen == name]

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments, **named: self.seen.append((name, (*arguments, *named.values())))
