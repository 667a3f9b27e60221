"""What operators see: metrics, logs, and the probes that tell whether the worker lives and answers.

Its door is `Telemetry`, which takes every event of the worker, and `Health`, which serves what it has collected."""

from worker.observability.health import Health
from worker.observability.telemetry import Telemetry

__all__ = ["Health", "Telemetry"]
