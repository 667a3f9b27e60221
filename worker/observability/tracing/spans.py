"""A span for each window, below it one for its encoding, each of its calls and its delivery, and one for each review that is
traced: that one belongs to the review's own trace, and both point at each other.

Spans end where the window does: delivered, or given up and read again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Lock

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation import get_current_span

from worker.observability.logs import redact
from worker.observability.tracing import conventions
from worker.observability.tracing.context import context_of, headers_of, metadata_of
from worker.observability.tracing.conventions import Attributes, Place
from worker.ports import ServedModel
from worker.records import DeadLetter, Headers, Labelled, Record, Retry, Window

MAX_LINKS = 128
"""Links of a window to its reviews' traces: what the SDK keeps of them by default."""


class SpanTracing:
    """A `ports.Tracing` that makes spans."""

    def __init__(self, tracer: Tracer, place: Place, close: Callable[[], None]) -> None:
        """`close` hands over what is recorded; it is called once."""
        self._tracer = tracer
        self._place = place
        self._close = close
        self._numbers = itertools.count(1)
        self._closed = False

    def polled(self, window: Window) -> WindowSpans:
        """See ports.Tracing."""
        return WindowSpans(self._tracer, self._place, next(self._numbers), window)

    def close(self) -> None:
        """See ports.Tracing."""
        if not self._closed:
            self._closed = True
            self._close()


class WindowSpans:
    """A `ports.WindowTrace` that makes spans."""

    def __init__(self, tracer: Tracer, place: Place, number: int, window: Window) -> None:
        self._tracer = tracer
        self._place = place
        self._number = number
        self._began_ns = time.time_ns()
        self._traced = _traced(window)
        origins = itertools.islice(self._traced.values(), MAX_LINKS)
        self._span = tracer.start_span(
            place.process,
            Context(),
            SpanKind.CONSUMER,
            place.window(number, len(window.records)),
            [Link(get_current_span(origin).get_span_context()) for origin in origins],
        )
        self._below = set_span_in_context(self._span, Context())
        self._lock = Lock()
        """Guards what follows."""
        self._ended = False
        self._deliver: Span | None = None
        self._reviews: Mapping[str, Span] = {}
        """By result id."""

    def active(self) -> AbstractContextManager[None]:
        """See ports.WindowTrace."""
        ids = {"trace_id": f"{self._span.get_span_context().trace_id:032x}"} if self._span.is_recording() else {}
        return structlog.contextvars.bound_contextvars(window=self._number, **ids)

    @contextmanager
    def encoding(self, served: ServedModel) -> Iterator[None]:
        """See ports.WindowTrace."""
        attributes = {**conventions.model(served), "inferry.encoder": served.encoder.name}
        with self._tracer.start_as_current_span(conventions.ENCODE, self._below, attributes=attributes):
            yield

    def call(self, rows: int, served: ServedModel) -> CallSpan:
        """See ports.WindowTrace."""
        return CallSpan(self._tracer, self._below, self._place.predict(rows, served))

    def retrying(self, retry: Retry) -> None:
        """See ports.WindowTrace."""
        self._span.add_event("retry", conventions.retry(retry))

    def answered(self, results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]) -> Mapping[str, Headers]:
        """See ports.WindowTrace. A review whose own trace is not sampled keeps the context that it came with."""
        deliver = self._tracer.start_span(
            self._place.send, self._below, SpanKind.PRODUCER, self._place.delivery(len(results), len(dead_letters))
        )
        reviews = self._review_spans([*results, *dead_letters]) if self._traced else {}
        with self._lock:
            self._deliver, self._reviews = deliver, reviews
            late = self._ended
        if late:  # given up meanwhile: nothing is published any more
            _end([deliver, *reviews.values()], "given up before its delivery")
        return {result_id: headers_of(span) for result_id, span in reviews.items()}

    def delivered(self, replaced: Sequence[DeadLetter]) -> None:
        """See ports.WindowTrace."""
        for letter in replaced:
            span = self._reviews.get(letter.record.result_id)
            if span is not None:
                _tell(span, letter)
        self._end()

    def given_up(self, why: str) -> None:
        """See ports.WindowTrace."""
        self._end(redact(why))

    def _review_spans(self, answers: Sequence[Labelled | DeadLetter]) -> dict[str, Span]:
        """The spans of the reviews that are traced and sampled, by result id."""
        spans = {}
        for answer in answers:
            origin = self._traced.get(answer.record.result_id)
            span = None if origin is None else self._review_span(answer.record, origin)
            if span is not None and span.is_recording():
                _tell(span, answer)
                spans[answer.record.result_id] = span
        return spans

    def _review_span(self, record: Record, origin: Context) -> Span:
        return self._tracer.start_span(
            self._place.process,
            origin,
            SpanKind.CONSUMER,
            self._place.review(record, self._number),
            [Link(self._span.get_span_context())],
            self._began_ns,
        )

    def _end(self, dropped: str = "") -> None:
        with self._lock:
            ended, self._ended = self._ended, True
            deliver, reviews = self._deliver, self._reviews
        if not ended:
            _end([*reviews.values(), *([deliver] if deliver else []), self._span], dropped)


class CallSpan:
    """A `ports.CallTrace`: a span from the moment the call leaves the worker."""

    def __init__(self, tracer: Tracer, below: Context, attributes: Attributes) -> None:
        self._tracer = tracer
        self._below = below
        self._attributes = attributes
        self._span: Span | None = None
        self._lock = Lock()

    def sending(self) -> Sequence[tuple[str, str]]:
        """See ports.CallTrace."""
        span = self._tracer.start_span(conventions.PREDICT, self._below, SpanKind.CLIENT, self._attributes)
        with self._lock:
            self._span = span
        return metadata_of(span)

    def ended(self, status: str) -> None:
        """See ports.CallTrace."""
        with self._lock:
            span, self._span = self._span, None
        if span is not None:
            span.set_attributes(conventions.call_end(status))
            if status != conventions.OK:
                span.set_status(Status(StatusCode.ERROR))
            span.end()


def _traced(window: Window) -> dict[str, Context]:
    """The contexts that the window's reviews came with, by result id."""
    each = ((record, context_of(record.headers)) for record in window.records if record.headers)
    return {record.result_id: context for record, context in each if context is not None}


def _tell(span: Span, answer: Labelled | DeadLetter) -> None:
    """What became of the review. A dead letter's sentence may quote the server, so only its reason is told."""
    span.set_attributes(conventions.answer(answer))
    if isinstance(answer, DeadLetter):
        span.set_status(Status(StatusCode.ERROR, answer.reason.value))


def _end(spans: Sequence[Span], dropped: str) -> None:
    for span in spans:
        if dropped:
            span.set_attribute(conventions.DROPPED, dropped)
            span.set_status(Status(StatusCode.ERROR, dropped))
        span.end()
