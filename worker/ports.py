"""The seams of the worker: everything the pipeline asks of the world, and nothing else.

Each docstring says whether a call blocks, which thread may make it, whether repeating it is safe, and what it
raises. `worker.testing` has a fake for each; one contract suite holds fakes and real adapters alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from threading import Event
from typing import NamedTuple, Protocol

import msgspec

from protos.model_card import UNCERTAIN
from worker.records import DeadLetter, Labelled, Partition, Retry, Tensor, Window


class Clock(Protocol):
    """Time. Thread-safe."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def wait(self, event: Event, seconds: float) -> bool:
        """Blocks until `event` is set or `seconds` have passed; True when it is set."""


class Rows(Protocol):
    """The texts of a window, encoded for one model version. Immutable; safe from several threads at once."""

    @property
    def tokens(self) -> Sequence[int]:
        """How many tokens each row has; 1 for a model that takes text."""

    @property
    def truncated(self) -> int:
        """How many rows were cut to the model's limit."""

    def is_truncated(self, index: int) -> bool:
        """Whether this row was cut to the model's limit."""

    def tensor(self, indexes: Sequence[int], longest: int) -> Tensor:
        """These rows in this order, each padded to `longest` tokens: shape (len(indexes), longest), or (len(indexes),) for
        a model that takes text. None of them may be longer than that."""


class Encoder(Protocol):
    """Text to rows of one model version. Pure; safe from several threads at once."""

    @property
    def name(self) -> str:
        """Which encoder it is, for people: compiled, automaton, wordpiece or text."""

    def encode_many(self, texts: Sequence[str]) -> Rows:
        """One row for each text, in their order. Never raises for any str: lone surrogates count as U+FFFD."""


class BuiltEncoder(NamedTuple):
    """An encoder, and what it says of its vocabulary, to be held against the model's card."""

    encoder: Encoder
    vocabulary_size: int = 0
    digest: str = ""
    """`sha256:<hex>` of the vocabulary's file; empty for a model that takes text."""


class ServedModel(msgspec.Struct, frozen=True):
    """One model version and all that is needed to feed it and to read its scores."""

    name: str
    version: int
    labels: tuple[str, ...]
    """For one sigmoid output (negative, positive); for k outputs, k labels."""
    threshold: float
    """With one output: a score at or above it gets the second label."""
    encoder: Encoder
    """Made from this version's own vocabulary."""
    digest: str = ""
    """`sha256:<hex>` of the vocabulary's text, or empty for a model that takes text."""
    length: int | None = None
    """Tokens of every row, where the model's input is not open in length."""
    uncertain: tuple[float, float] | None = None
    """With one output: a score from the first to below the second gets the label `uncertain` in place of either."""

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Every label that a review may get."""
        return (*self.labels, UNCERTAIN) if self.uncertain else self.labels


class Source(Protocol):
    """Where reviews come from. All calls from one thread, the reader's."""

    def poll(self, timeout_seconds: float) -> Window | None:
        """Blocks up to `timeout_seconds`; None when nothing came.

        Raises SourceLost when the assignment changed since the last poll: polled records were dropped, and as after
        rewind() every assigned partition goes back to its committed offset. Raises OffsetsLost when the committed
        offsets cannot be read any more, Fenced when another live process took this worker's place in the group.
        An outage raises nothing: None comes back until it is over."""

    def pause(self) -> None:
        """From the next poll on nothing is fetched: poll() returns None but keeps the membership alive. Idempotent, never
        blocks."""

    def resume(self) -> None:
        """Fetches again after pause(). Idempotent, never blocks."""

    def rewind(self) -> None:
        """The next poll takes every assigned partition back to its committed offset before anything is handed out, and
        hands out nothing until that has succeeded. Never blocks; idempotent."""

    def lag(self) -> Mapping[Partition, int]:
        """Records waiting per assigned partition; partitions of which nothing is known are missing. Blocks for at most a
        second, at most once a second: where nothing is fetched, the source has to ask. Raises nothing."""

    def finished(self) -> bool:
        """Whether a bounded source (`--until`) has handed out its last record. Never blocks."""

    def close(self) -> None:
        """Leaves the group. Blocks up to the adapter's own limit; idempotent."""


class Call(Protocol):
    """One prediction under way. Thread-safe."""

    def result(self) -> Sequence[Sequence[float]]:
        """Blocks until the answer or the request's deadline: a sequence of scores for each row, checked
        (row count, dtype, shape, finite, version).

        Raises ServingUnavailable, ServingRejected or ModelGone; the same one again when called again."""

    def cancel(self) -> None:
        """Gives the call up. Idempotent, never blocks."""


class Model(Protocol):
    """The model server. Thread-safe."""

    def current(self) -> ServedModel:
        """The version to use now. Never blocks once a version is known; raises ServingUnavailable while there
        is none."""

    def refresh(self) -> ServedModel:
        """Asks the server which versions it serves and returns the one to use now. Blocks up to the request's
        deadline; raises ServingUnavailable, or ModelMismatch when what is served does not fit."""

    def predict(self, served: ServedModel, tensor: Tensor) -> Call:
        """Starts a prediction by exactly this version. Never blocks: calls beyond the limit of requests in flight
        wait inside."""

    def probe(self) -> None:
        """Asks for a trivial prediction, which this version has answered well before. Returns when the server answers;
        raises ServingUnavailable when it does not, or when its reply fails the checks that any reply has to pass, and
        ModelGone. Blocks up to the request's deadline."""

    def close(self) -> None:
        """Cancels what is under way. Idempotent."""


class Delivery(Protocol):
    """Where answers go. All calls from one thread, the deliverer's, and windows in the order of their polls."""

    def deliver(
        self, window: Window, results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]
    ) -> Sequence[DeadLetter]:
        """Publishes every answer of the window, then commits its offsets. Returns once all of it is durable: the dead
        letters that took the place of results the topic does not take. Blocks up to the delivery's limit.

        Raises DeliveryFailed when that did not happen or cannot be known: the caller drops everything in flight
        and rewinds the source. Raises Fenced when another live process holds this worker's identity."""

    def close(self) -> None:
        """Blocks up to the adapter's own limit; idempotent. An open transaction is aborted."""


class Events(Protocol):
    """What happened, told once for metrics and logs alike. Thread-safe, never blocks, never raises.
    Durations are in seconds. One call for each window, batch or request, never one for each review."""

    def polled(self, records: int, size_bytes: int) -> None:
        """A poll brought a window."""

    def decoded(self, seconds: float, reviews: int, dead_letters: int) -> None:
        """A window's records were decoded, some into dead letters."""

    def encoded(self, seconds: float, reviews: int, tokens: int, truncated: int) -> None:
        """A window's reviews were encoded."""

    def batched(self, rows: int, tokens: int, padded_tokens: int) -> None:
        """A micro-batch was planned: `tokens` of its `padded_tokens` are real."""

    def predicted(self, seconds: float, status: str) -> None:
        """One Predict call ended: OK, BAD_REPLY, or the adapter's name for what went wrong."""

    def retrying(self, retry: Retry) -> None:
        """Something failed for now and is tried again."""

    def delivered(
        self,
        seconds: float,
        results_by_label: Mapping[str, int],
        dead_letters_by_reason: Mapping[str, int],
        latencies_seconds: Sequence[float],
        partitions: Collection[Partition],
    ) -> None:
        """One window, of these partitions, became durable; the latencies run from each record's timestamp to now."""

    def dropped(self, windows: int, why: str) -> None:
        """Windows in flight were given up and will be read again."""

    def in_flight(self, windows: int) -> None:
        """This many windows are between poll and commit."""

    def requests(self, in_flight: int, limit: int) -> None:
        """This many Predict calls are under way, of at most `limit`."""

    def lag(self, by_partition: Mapping[Partition, int]) -> None:
        """The whole assignment: partitions that are missing here are not ours any more."""

    def serving(self, served: ServedModel | None) -> None:
        """The version in use changed; None: no version is available, the worker holds."""

    def shadowed(self, rows: int, agreements: int, score_differences: Sequence[float]) -> None:
        """A shadow version scored the same rows; so many labels agreed."""

    def shadow_skipped(self) -> None:
        """A window was not scored by the shadow version: it was away, or too slow."""

    def state(self, state: str, detail: str = "") -> None:
        """starting, running, holding, draining, stopped."""
