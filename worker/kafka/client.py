"""What source and delivery share of the Kafka client: its options, its errors in our words, and the checks at start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import NewTopic
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from worker.errors import ConfigError, Fenced, KafkaUnavailable, WorkerError
from worker.settings import Settings

REFUSED = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,  # a listener without SASL
)
"""How brokers answer credentials that they do not take."""

FATAL = (
    *REFUSED,
    kafka_errors.AuthorizationError,
    kafka_errors.UnsupportedCodecError,
    kafka_errors.KafkaConfigurationError,
    kafka_errors.IncompatibleBrokerVersion,
)
"""Errors that no waiting mends."""

NO_METRICS = {"metrics_enabled": False}
"""Our own metrics say what an operator needs; the client's cost about a tenth of its CPU. The admin client has none."""

UNCOMPRESSED = {"compression.type": "uncompressed"}
"""The client decompresses without a cap. So brokers do it, which refuse what is larger than `max.message.bytes` then."""


class _TellingManager(KafkaConnectionManager):  # type: ignore[misc]  # kafka-python ships no types
    """Ends the first connect at once when a broker refuses the credentials.

    kafka-python 3.0.12 asks again until its time is up, for three reasons that are undone here. What a broker says just
    before it hangs up is dropped unread (net/transport.py, _read_from_sock), a connection keeps what it did read to itself
    (net/connection.py, initialize), and a failure that was noted is forgotten in the same turn (net/manager.py, _connect).
    Once the cluster is known, it is the client's own manager again: brokers that restart may refuse for a moment."""

    _refusal: Exception | None = None

    def get_connection(self, node_id: Any, *arguments: Any, **named: Any) -> KafkaConnection:
        first = not self.cluster.brokers()
        if first and self._refusal is not None:
            raise self._refusal
        known = self._conns.get(node_id)
        connection = super().get_connection(node_id, *arguments, **named)
        if first and connection is not known:
            # It connects in a later turn of the client's loop, so this comes in time.
            connection._sasl_authenticate = partial(self._authenticate, connection._sasl_authenticate)
        return connection

    async def _authenticate(
        self, authenticate: Callable[..., Awaitable[None]], timeout_at: float | None = None
    ) -> None:
        try:
            await authenticate(timeout_at)
        except REFUSED as error:
            self._refusal = error
            raise

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        if not self.cluster.brokers():
            transport._sock_recv = partial(_received_before_the_end, transport._sock_recv)
        return transport


def _received_before_the_end(receive: Callable[[], tuple[bytes, Exception | None]]) -> tuple[bytes, Exception | None]:
    """What was received, and that the connection has ended only if there was nothing: the next call says so again."""
    data, error = receive()
    return data, None if data else error


def telling_client(**options: Any) -> KafkaNetClient:
    """The client's inner client, with the manager above: for the option `kafka_client` of the first to connect."""
    net = NetworkSelector(**options)
    return KafkaNetClient(net=net, manager=_TellingManager(net, **options), **options)


def connection_options(settings: Settings) -> dict[str, Any]:
    """How to reach the brokers, for consumer, producer and admin client alike."""
    return {
        "bootstrap_servers": settings.bootstrap.split(","),
        "client_id": "inferry-worker",
        "security_protocol": settings.kafka_security_protocol,
        "sasl_mechanism": settings.kafka_sasl_mechanism or None,
        "sasl_plain_username": settings.kafka_sasl_username or None,
        "sasl_plain_password": settings.kafka_sasl_password.get_secret_value() or None,
        "ssl_cafile": settings.kafka_ssl_cafile or None,
        "ssl_certfile": settings.kafka_ssl_certfile or None,
        "ssl_keyfile": settings.kafka_ssl_keyfile or None,
        "request_timeout_ms": _ms(settings.kafka_request_timeout_seconds),
        # One attempt to reach any of the brokers; the client's own 30 s would outlast our limits at start and at the end.
        "bootstrap_timeout_ms": _ms(min(settings.kafka_request_timeout_seconds, settings.startup_seconds)),
        "reconnect_backoff_max_ms": 2_000,
        # The client also waits this long for connections it has just begun, several times at every start.
        "retry_backoff_ms": 20,
    }


def consumer_options(settings: Settings) -> dict[str, Any]:
    """A consumer that commits nothing by itself, reads only what is committed, and never chooses an offset alone."""
    return connection_options(settings) | {
        **NO_METRICS,
        "kafka_client": telling_client,
        "group_id": settings.group,
        "group_instance_id": settings.instance_id or None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        # Also makes offset reads wait for open transactions (KIP-447): without it a rewind can read an old offset.
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "max_poll_records": settings.window_records,
        "max_poll_interval_ms": _ms(settings.max_poll_interval_seconds),
        "session_timeout_ms": _ms(settings.session_timeout_seconds),
        "heartbeat_interval_ms": min(3_000, _ms(settings.session_timeout_seconds) // 3),
        "max_partition_fetch_bytes": settings.fetch_bytes,
        "fetch_max_bytes": 4 * settings.fetch_bytes,
        # New partitions of the topic are seen after this long.
        "metadata_max_age_ms": 30_000,
    }


def producer_options(settings: Settings) -> dict[str, Any]:
    """An idempotent producer whose records wait for flush(), so that a window goes out in few, large batches."""
    return connection_options(settings) | {
        **NO_METRICS,
        "acks": "all",
        "enable_idempotence": True,
        "allow_auto_create_topics": False,
        "linger_ms": 100,
        "batch_size": 262_144,
        "max_request_size": 2 * settings.max_review_bytes + 1_048_576,
        "delivery_timeout_ms": _ms(settings.kafka_delivery_timeout_seconds),
        "max_block_ms": _ms(settings.kafka_delivery_timeout_seconds),
    }


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turns the client's errors into KafkaUnavailable with a sentence that says what was being done."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise KafkaUnavailable(f"{doing}: {explain(error)}") from error
    except OSError as error:
        raise KafkaUnavailable(f"{doing}: {error}") from error


def explain(error: BaseException) -> str:
    """The error's class and text in one line, without the client's boilerplate."""
    text = " ".join(str(error).split())
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        text += "; pip install 'inferry[compression]' brings it"
    name = type(error).__name__
    return text if text.startswith(name) or not text else f"{name}: {text}"


def check_topics(consumer: KafkaConsumer, settings: Settings) -> dict[str, int]:
    """The number of partitions of each of our topics, created first where allowed.

    Raises ConfigError when one is missing, KafkaUnavailable when the brokers do not answer."""
    topics = (settings.input_topic, settings.output_topic, settings.dead_letter_topic)
    counts = _partition_counts(consumer, topics)
    missing = [topic for topic in topics if topic not in counts]
    if missing and settings.create_topics:
        _create(settings, missing)
        counts = _partition_counts(consumer, topics)
        missing = [topic for topic in topics if topic not in counts]
    if missing:
        raise ConfigError(
            f"no such topic at {settings.bootstrap}: {', '.join(missing)}. Create it, or let the worker do it with "
            "--create-topics"
        )
    return counts


def _partition_counts(consumer: KafkaConsumer, topics: tuple[str, ...]) -> dict[str, int]:
    with translated("asking for the topics' partitions"):
        found = {topic: consumer.partitions_for_topic(topic) for topic in topics}
    return {topic: len(partitions) for topic, partitions in found.items() if partitions}


def _create(settings: Settings, topics: list[str]) -> None:
    with translated("creating topics"):
        admin = KafkaAdminClient(**connection_options(settings))
        try:
            new = [
                NewTopic(
                    topic,
                    settings.create_partitions,
                    settings.create_replication,
                    topic_configs=UNCOMPRESSED if topic == settings.input_topic else {},
                )
                for topic in topics
            ]
            admin.create_topics(new, raise_errors=False)
            admin.wait_for_topics(topics)
        finally:
            admin.close()


def partitions_of(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """All partitions of a topic."""
    return [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]


def replaced(instance_id: str | None) -> Fenced:
    """The error of a static member (KIP-345) whose place another process has taken: brokers refuse whichever came first."""
    return Fenced(
        f"another live process uses the instance id {instance_id!r}: give each worker its own with --instance-id"
    )


def is_fatal(error: BaseException) -> bool:
    """Whether waiting cannot help."""
    return isinstance(error, (*FATAL, WorkerError))
