"""What operators see: metrics, logs, the probes that tell whether the worker lives and answers, and a page for people.

Its door is `Telemetry`, which takes every event of the worker, `Health`, which serves what it has collected, and
`StatusPage`, which shows it."""

from worker.observability.health import Health
from worker.observability.status import About, StatusPage
from worker.observability.telemetry import Telemetry

__all__ = ["About", "Health", "StatusPage", "Telemetry"]
