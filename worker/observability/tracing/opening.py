"""Whether traces are on, and what is needed for it. Imports OpenTelemetry only where they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

import structlog

from worker.errors import ConfigError
from worker.ports import Tracing
from worker.settings import Settings
from worker.untraced import Untraced

SWITCHES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Whoever sets one of these wants traces."""
MISSING = "traces need the extra [otel], which is not installed: pip install 'inferry[otel]'"


def open_tracing(settings: Settings, environ: Mapping[str, str] = os.environ) -> Tracing:
    """Traces as the settings and the standard OTEL_ variables ask for them. Connects to nothing yet.

    Raises ConfigError where traces are asked for and cannot be had. Only where nothing but a variable asks for them and the
    extra is missing, a warning says so instead: a platform may set the variable for everybody."""
    asked_by = next((name for name in SWITCHES if environ.get(name)), "")
    if settings.traces == "off" or (settings.traces == "auto" and not asked_by) or _disabled(environ):
        return Untraced()
    if not _installed():
        if settings.traces == "on":
            raise ConfigError(f"--traces on: {MISSING}")
        structlog.get_logger("worker").warning(
            "no traces", variable=asked_by, detail=f"{asked_by} is set, but {MISSING}"
        )
        return Untraced()
    _check(environ)
    from worker.observability.tracing.exporting import tracing_over_otlp

    return tracing_over_otlp(settings)


def _disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"


def _installed() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.grpc") is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False


def _check(environ: Mapping[str, str]) -> None:
    """Raises ConfigError for what the standard knows and the extra does not have: silence would look like no traces."""
    exporter = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter != "otlp":
        raise ConfigError(f"OTEL_TRACES_EXPORTER is {exporter}; the worker has otlp (and none)")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(name) or "grpc"
        if protocol != "grpc":
            raise ConfigError(
                f"{name} is {protocol}; the worker speaks grpc: set it so, and name the collector's gRPC port (4317 "
                "by default) in OTEL_EXPORTER_OTLP_ENDPOINT"
            )
