"""Spans on their way to a collector: OpenTelemetry's SDK, configured by its standard variables."""

from __future__ import annotations

import os
from threading import Thread

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from worker.errors import ConfigError
from worker.observability.tracing.conventions import Place
from worker.observability.tracing.spans import SpanTracing
from worker.observability.version import own_version
from worker.settings import Settings

CLOSE_SECONDS = 3.0
"""How long the last spans may take to their collector when the worker stops: it may be away, and nobody waits for it."""


def tracing_over_otlp(settings: Settings) -> SpanTracing:
    """Spans are handed over by a thread of the SDK's, which drops them where the collector is slow: no review waits for it.

    Raises ConfigError for an OTEL_ variable that the SDK refuses."""
    try:
        # Not the process's global provider: nothing else in it is to be traced by accident.
        provider = TracerProvider(resource=_resource(settings), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except Exception as error:
        raise ConfigError(f"OpenTelemetry refuses its OTEL_ variables: {error}") from error
    return SpanTracing(provider.get_tracer("inferry", own_version()), Place.of(settings), lambda: _close(provider))


def _resource(settings: Settings) -> Resource:
    """Who we are, where OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME do not say it."""
    ours = {
        "service.name": "inferry-worker",
        "service.version": own_version(),
        "service.instance.id": f"{settings.producer_id}@{os.uname().nodename}",
    }
    named = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in ours.items() if name not in named})


def _close(provider: TracerProvider) -> None:
    # The SDK waits for half a minute, whatever it is told.
    closing = Thread(target=provider.shutdown, name="last spans", daemon=True)
    closing.start()
    closing.join(CLOSE_SECONDS)
