"""Where Kafka is and how to get in; the only maker of Kafka clients in this package.

The address comes from the flag, else `INFERRY_BOOTSTRAP`, else the one-machine stack's `.inferry/stack.json` in this
folder or one above it, else `localhost:9092`. Security settings have the worker's environment names.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaConfigurationError, KafkaError, KafkaTimeoutError, for_code
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from producer.errors import ConnectionConfigError, Unavailable
from worker.kafka.driver import TlsRefused
from worker.kafka.drivers.kafka_python import tls
from worker.kafka.drivers.kafka_python.errors import ours
from worker.kafka.drivers.kafka_python.first_connect import telling_client
from worker.kafka.drivers.kafka_python.security import security_options
from worker.kafka.failures import not_let_in
from worker.security.kafka import KafkaSettings, SecretsFolderMissing

DEFAULT_BOOTSTRAP = "localhost:9092"
CONNECT_SECONDS = 5
"""How long to try before saying that Kafka does not answer. A healthy broker answers in well under one."""
STACK_FILE = Path(".inferry/stack.json")

_UNKNOWN_TOPIC = 3  # UNKNOWN_TOPIC_OR_PARTITION of the Kafka protocol


_NAMES = sorted((name.replace("_", "-") for name in KafkaSettings.model_fields), key=len, reverse=True)
_SETTING = re.compile(rf"(?<![\w./-])(?:{'|'.join(name for name in _NAMES if name.startswith('kafka-'))})(?![\w-])")
"""The name of a setting, and not the part of a path or a host that looks like one."""


class Connection(KafkaSettings):
    """How to reach Kafka. Make it with `Connection.find`; it never shows its password."""

    model_config = SettingsConfigDict(extra="ignore")

    bootstrap: str = ""
    origin: str = ""
    """Where the address comes from, for error messages."""

    @classmethod
    def find(cls, bootstrap: str | None = None, folder: Path | None = None) -> Connection:
        """The connection to use: `bootstrap` if given, else environment, `stack.json` above `folder`, default.

        Raises ConnectionConfigError when a setting has an impossible value."""
        try:
            settings = cls(origin="")
        except (ValidationError, SecretsFolderMissing) as error:
            raise ConnectionConfigError(_sentence(error)) from None
        if bootstrap:
            address, origin = bootstrap, "--bootstrap"
        elif settings.bootstrap:
            address, origin = settings.bootstrap, "INFERRY_BOOTSTRAP"
        elif (stack := stack_address("bootstrap", folder)) is not None:
            address, origin = stack, str(STACK_FILE)
        else:
            address, origin = DEFAULT_BOOTSTRAP, "the default"
        if not all(
            re.fullmatch(r"([^:\s]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?", part.strip()) for part in address.split(",")
        ):
            raise ConnectionConfigError(
                f"{address!r} (from {origin}) is no address; write host:port, more with commas."
            )
        return settings.model_copy(update={"bootstrap": address, "origin": origin})

    def producer(self, **options: Any) -> KafkaProducer:
        """A producer that never creates topics. Raises Unavailable or ConnectionConfigError."""
        with self._translated_errors():
            return KafkaProducer(**self._options(), allow_auto_create_topics=False, **options)

    def consumer(self, **options: Any) -> KafkaConsumer:
        """A consumer of committed records only, that commits nothing by itself. Raises as `producer` does."""
        options = {"enable_auto_commit": False, "auto_offset_reset": "earliest"} | options
        with self._translated_errors():
            return KafkaConsumer(
                **self._options(), isolation_level="read_committed", allow_auto_create_topics=False, **options
            )

    def partitions(self, topic: str) -> list[int]:
        """The topic's partition numbers, in order. Raises Unavailable when it does not exist or is closed to us."""
        with self._translated_errors():
            admin = KafkaAdminClient(**self._options())
            try:
                described = admin.describe_topics([topic])[0]
            finally:
                admin.close()
        if described["error_code"] == _UNKNOWN_TOPIC:
            raise Unavailable(
                f"Kafka at {self.bootstrap} has no topic “{topic}”. `inferry-local up` creates the standard topics; on a "
                f"cluster of your own: kafka-topics.sh --bootstrap-server {self.bootstrap} --create --topic {topic} "
                "--partitions 3."
            )
        if described["error_code"]:
            raise Unavailable(f"Topic “{topic}” cannot be used: {for_code(described['error_code']).__name__}.")
        return sorted(partition["partition_index"] for partition in described["partitions"])

    def _options(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": [address.strip() for address in self.bootstrap.split(",")],
            "bootstrap_timeout_ms": CONNECT_SECONDS * 1000,
            "client_id": "inferry-producer",
            "kafka_client": telling_client,
            **security_options(self),
        }

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        complaint = _LastComplaint()
        logger = logging.getLogger("kafka")
        logger.addHandler(complaint)
        try:
            yield
        except (KafkaConfigurationError, ValueError, OSError) as error:
            raise ConnectionConfigError(
                f"The settings for Kafka at {self.bootstrap} cannot be used: {error}."
            ) from error
        except KafkaError as error:
            refusal = not_let_in(complaint.tls_refusal() or ours(error), self.bootstrap)
            if refusal is not None:
                raise ConnectionConfigError(_as_environment(refusal) + ".") from error
            why = complaint.text or str(error)
            raise Unavailable(
                f"Kafka did not let us in at {self.bootstrap} (from {self.origin}) within {CONNECT_SECONDS} seconds: "
                f"{why}. Is it running? `inferry-local up` starts one here; --bootstrap names another."
            ) from error
        finally:
            logger.removeHandler(complaint)


def _sentence(error: ValidationError | SecretsFolderMissing) -> str:
    """The first thing that is wrong; values are left out, they may be secret."""
    if isinstance(error, SecretsFolderMissing):
        return f"{error}."
    first = error.errors(include_input=False)[0]
    what = first["msg"].removeprefix("Value error, ")
    if first["loc"]:
        what = f"{'-'.join(str(part) for part in first['loc']).replace('_', '-')}: {what}"
    return _as_environment(what) + "."


def _as_environment(sentence: str) -> str:
    """Settings by their environment variables: these commands have no flags for them."""
    return _SETTING.sub(lambda found: "INFERRY_" + found[0].upper().replace("-", "_"), sentence).rstrip(".")


class _LastComplaint(logging.Handler):
    """Remembers kafka-python's last warning: while connecting it retries whatever happens, a wrong password too, and
    tells the cause in its log only."""

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.text = ""
        self._error: Exception | None = None

    def tls_refusal(self) -> TlsRefused | None:
        """What a failed handshake with a broker says, where waiting mends nothing."""
        sentence = tls.refusal(self._error.__context__) if self._error else None
        return TlsRefused(sentence) if sentence else None

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the exception that a "… failed: …" line names; a timeout is only the sum of such causes."""
        causes = [arg for arg in record.args or () if isinstance(arg, Exception)]
        if causes and not isinstance(causes[-1], KafkaTimeoutError):
            self._error = causes[-1]
            self.text = _cause(causes[-1])


def _cause(error: Exception) -> str:
    """ "KafkaConnectionError: 111 ECONNREFUSED" as "connection refused"; other errors' messages as they are."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    message = str(error.args[0]) if error.args else type(error).__name__
    number, _, name = message.partition(" ")
    if number.isdecimal() and hasattr(errno, name):
        return os.strerror(int(number)).lower()
    return message


def stack_address(name: str, folder: Path | None = None) -> str | None:
    """The address called `name` (bootstrap, grpc, rest, metrics) in the nearest `.inferry/stack.json`, going up from
    `folder` (the current one by default); None when there is no such file or name."""
    start = (folder or Path.cwd()).resolve()
    for candidate in (start, *start.parents):
        try:
            stack = msgspec.json.decode((candidate / STACK_FILE).read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError):
            continue
        address = stack.get(name)
        return str(address) if address else None
    return None
