"""What operators see: metrics, logs, the probes that tell whether the worker lives and answers, and a page for people.

Its door is `Telemetry`, which takes every event of the worker, `open_port`, which serves and shows what it has collected,
and `open_tracing`, which makes spans of windows, calls and reviews."""

from worker.observability.port import open_port
from worker.observability.telemetry import Telemetry
from worker.observability.tracing import open_tracing

__all__ = ["Telemetry", "open_port", "open_tracing"]
