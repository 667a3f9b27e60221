"""Kafka clients behind `worker.kafka.driver`, one module or package each, made by name.

A client's library is imported when its driver is asked for, and not before: another one need not be installed."""

from __future__ import annotations

from collections.abc import Callable

from worker.errors import ConfigError
from worker.kafka.driver import Driver
from worker.ports import Clock
from worker.settings import Settings

DEFAULT = "kafka-python"


def _kafka_python(settings: Settings, clock: Clock) -> Driver:
    from worker.kafka.drivers.kafka_python import KafkaPython

    return KafkaPython(settings, clock)


def _librdkafka(settings: Settings, clock: Clock) -> Driver:
    try:
        from worker.kafka.drivers.librdkafka import Librdkafka
    except ImportError as error:
        raise ConfigError(
            f"kafka-client librdkafka needs confluent-kafka ({error}): pip install 'inferry[librdkafka]', or leave "
            f"kafka-client at {DEFAULT}"
        ) from error
    return Librdkafka(settings, clock)


MAKERS: dict[str, Callable[[Settings, Clock], Driver]] = {"kafka-python": _kafka_python, "librdkafka": _librdkafka}
"""What makes each driver. Contract and fault suites run once for every name here."""


def make_driver(name: str, settings: Settings, clock: Clock) -> Driver:
    """The driver of that name, one of MAKERS. Connects to nothing yet. Raises ConfigError where its client is missing."""
    return MAKERS[name](settings, clock)
