"""A collector in this process: keeps every span that comes over OTLP's gRPC."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as _Status

WAIT_SECONDS = 60.0
TRACE, PRODUCER_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def traceparent(trace: str = TRACE, span: str = PRODUCER_SPAN, *, sampled: bool = True) -> bytes:
    return f"00-{trace}-{span}-{'01' if sampled else '00'}".encode()


class Found(NamedTuple):
    """A span as it arrived; ids in hexadecimal."""

    name: str
    kind: str
    trace: str
    span: str
    parent: str
    failed: bool
    attributes: Mapping[str, Any]
    links: list[tuple[str, str]]
    events: list[tuple[str, Mapping[str, Any]]]
    resource: Mapping[str, Any]

    @property
    def traceparent(self) -> bytes:
        return traceparent(self.trace, self.span)


class Collector:
    """Listens at a free port from the start."""

    def __init__(self) -> None:
        self._spans: list[Found] = []
        self._came = threading.Condition()
        self._pool = ThreadPoolExecutor(2)
        self._server = grpc.server(self._pool)
        method = grpc.unary_unary_rpc_method_handler(self._export)
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def environment(self) -> dict[str, str]:
        """What a worker needs to find it."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}", "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def stop(self) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()

    def named(self, start: str) -> list[Found]:
        """The spans whose name begins so, in the order of their arrival."""
        with self._came:
            return [span for span in self._spans if span.name.startswith(start)]

    def wait_for(self, arrived: Callable[[], bool]) -> None:
        with self._came:
            assert self._came.wait_for(arrived, WAIT_SECONDS), [span.name for span in self._spans]

    def _export(self, content: bytes, _context: Any) -> bytes:
        request = ExportTraceServiceRequest.FromString(content)
        found = [
            _found(span, _plain(of.resource.attributes))
            for of in request.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]
        with self._came:
            self._spans += found
            self._came.notify_all()
        reply: bytes = ExportTraceServiceResponse().SerializeToString()
        return reply


def _found(span: Span, resource: Mapping[str, Any]) -> Found:
    return Found(
        span.name,
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.status.code == _Status.STATUS_CODE_ERROR,
        _plain(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        [(event.name, _plain(event.attributes)) for event in span.events],
        resource,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
