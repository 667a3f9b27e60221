"""W3C Trace Context in the headers of records and in the metadata of calls (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context
from opentelemetry.trace.propagation import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.records import CONTEXT_HEADERS, Headers

MAX_BYTES = 512
"""Longer values are not read: 512 characters are what the standard asks a `tracestate` to be taken on for."""

_propagator = TraceContextTextMapPropagator()
_nowhere = Context()


def context_of(headers: Headers) -> Context | None:
    """The context that a record's headers carry, the last of each name counting; None where there is none that is valid."""
    carrier = {
        name: value.decode("latin-1")
        for name, value in headers
        if name in CONTEXT_HEADERS and value and len(value) <= MAX_BYTES
    }
    if not carrier:
        return None
    context = _propagator.extract(carrier, _nowhere)
    return context if get_current_span(context).get_span_context().is_valid else None


def metadata_of(span: Span) -> list[tuple[str, str]]:
    """What tells others of this span, for a gRPC call."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, set_span_in_context(span, _nowhere))
    return list(carrier.items())


def headers_of(span: Span) -> Headers:
    """What tells others of this span, for a record."""
    return [(name, value.encode("latin-1", "replace")) for name, value in metadata_of(span)]
