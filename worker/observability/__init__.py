"""What operators see: metrics, logs, the probes that tell whether the worker lives and answers, and a page for people.

Its door is `Telemetry`, which takes every event of the worker, `Health`, which serves what it has collected,
`StatusPage`, which shows it, and `open_tracing`, which makes spans of windows, calls and reviews."""

from worker.observability.health import Health
from worker.observability.status import About, StatusPage
from worker.observability.telemetry import Telemetry
from worker.observability.tracing import open_tracing

__all__ = ["About", "Health", "StatusPage", "Telemetry", "open_tracing"]
