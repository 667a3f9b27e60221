"""Traces of windows, calls and reviews, handed to a collector over OTLP; see docs/traces.md for what they hold.

Its door is `open_tracing`. Only this package knows OpenTelemetry, and it imports it only where traces are on."""

from worker.observability.tracing.opening import open_tracing

__all__ = ["open_tracing"]
