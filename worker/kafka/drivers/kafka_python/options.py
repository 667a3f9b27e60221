"""The client's options, from the settings."""

from __future__ import annotations

from typing import Any

from worker.kafka.drivers.kafka_python.first_connect import telling_client
from worker.kafka.drivers.kafka_python.security import security_options
from worker.settings import Settings

NO_METRICS = {"metrics_enabled": False}
"""Our own metrics say what an operator needs; the client's cost about a tenth of its CPU. The admin client has none."""


def connection_options(settings: Settings) -> dict[str, Any]:
    """How to reach the brokers, for consumer, producer and admin client alike."""
    return {
        "bootstrap_servers": settings.bootstrap.split(","),
        "client_id": settings.client_id,
        **security_options(settings),
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


def transactional_options(settings: Settings, transactional_id: str) -> dict[str, Any]:
    """What a producer of transactions needs beyond `producer_options`."""
    return {
        "transactional_id": transactional_id,
        "transaction_timeout_ms": _ms(settings.transaction_timeout_seconds),
    }


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
