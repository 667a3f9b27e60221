"""The names that spans and their attributes have: OpenTelemetry's semantic conventions 1.44 for messaging, Kafka and RPC
(https://opentelemetry.io/docs/specs/semconv/), and `inferry.…` for what they have no name for.

No span holds a review's text or key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from worker.errors import Cause
from worker.ports import ServedModel
from worker.records import DeadLetter, Labelled, Record, Retry
from worker.settings import Settings

Attributes = Mapping[str, str | int | float | bool]

PREDICT = "tensorflow.serving.PredictionService/Predict"
ENCODE = "encode"
DROPPED = "inferry.dropped"
"""Why a window was given up: it is read again, in another span."""
OK = "OK"
_NO_STATUS_OF_RPC = Cause.BAD_REPLY.value


class Place(NamedTuple):
    """Where reviews come from, what scores them, and where their answers go."""

    input_topic: str
    output_topic: str
    group: str
    server: str
    """host:port"""

    @classmethod
    def of(cls, settings: Settings) -> Place:
        """The place that these settings name."""
        return cls(settings.input_topic, settings.output_topic, settings.group, settings.serving)

    @property
    def process(self) -> str:
        """The name of spans in which reviews are processed."""
        return f"process {self.input_topic}"

    @property
    def send(self) -> str:
        """The name of spans in which answers are sent."""
        return f"send {self.output_topic}"

    def window(self, number: int, records: int) -> Attributes:
        """Of a window."""
        return {**self._processing(), "messaging.batch.message_count": records, "inferry.window": number}

    def review(self, record: Record, window: int) -> Attributes:
        """Of one review."""
        return {
            **self._processing(),
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "inferry.window": window,
        }

    def delivery(self, results: int, dead_letters: int) -> Attributes:
        """Of a window's delivery."""
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": self.output_topic,
            "messaging.batch.message_count": results + dead_letters,
            "inferry.dead_letters": dead_letters,
        }

    def predict(self, rows: int, served: ServedModel) -> Attributes:
        """Of a Predict call."""
        host, _, port = self.server.rpartition(":")
        server: dict[str, str | int] = {"server.address": host, "server.port": int(port)} if port.isdecimal() else {}
        return {"rpc.system.name": "grpc", "rpc.method": PREDICT, **server, "inferry.rows": rows, **model(served)}

    def _processing(self) -> Attributes:
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": self.input_topic,
            "messaging.consumer.group.name": self.group,
        }


def model(served: ServedModel) -> Attributes:
    """Which version."""
    return {"inferry.model.name": served.name, "inferry.model.version": served.version}


def call_end(status: str) -> Attributes:
    """How a call ended."""
    code = OK if status == _NO_STATUS_OF_RPC else status  # such a reply came with a good status
    failed = {} if status == OK else {"error.type": status}
    return {"rpc.response.status_code": code, **failed}


def retry(what: Retry) -> Attributes:
    """Of the event that something is tried again."""
    return {
        "inferry.retry.what": what.what,
        "error.type": what.status,
        "inferry.retry.attempt": what.attempt,
        "inferry.retry.delay_seconds": what.delay_seconds,
    }


def answer(given: Labelled | DeadLetter) -> Attributes:
    """What became of one review."""
    if isinstance(given, DeadLetter):
        reason = given.reason.value
        return {"inferry.dead_letter.reason": reason, "inferry.dead_letter.stage": given.stage, "error.type": reason}
    return {
        "inferry.label": given.label,
        "inferry.score": given.score,
        "inferry.tokens": given.tokens,
        "inferry.truncated": given.truncated,
        "inferry.model.name": given.model_name,
        "inferry.model.version": given.model_version,
    }
