"""The client's options, from the settings."""

from __future__ import annotations

import logging
from typing import Any

from worker.kafka.drivers.librdkafka.security import security_options
from worker.settings import Settings

LOGGER = logging.getLogger("librdkafka")
"""Where the client's own lines go; without a logger it writes them to stderr."""
LONGEST_RECONNECT_MS = 2_000
PRODUCER_RETRY_MS = 500
"""How long a producer waits before it sends a request again, and 0.8 times that at least: see producer.SLOW_CALL_SECONDS."""


def connection_options(settings: Settings) -> dict[str, Any]:
    """How to reach the brokers, for consumer, producer and admin client alike."""
    return {
        "bootstrap.servers": settings.bootstrap,
        "client.id": settings.client_id,
        **security_options(settings),
        "socket.timeout.ms": _ms(settings.kafka_request_timeout_seconds),
        "socket.connection.setup.timeout.ms": max(1_000, _ms(settings.kafka_request_timeout_seconds)),
        "reconnect.backoff.max.ms": LONGEST_RECONNECT_MS,
        "enable.metrics.push": False,
        "log_level": 4,  # warnings and worse, as of every library
        "log.connection.close": False,
        "logger": LOGGER,
    }


def consumer_options(settings: Settings) -> dict[str, Any]:
    """A consumer that commits nothing by itself, reads only what is committed, and never chooses an offset alone."""
    return connection_options(settings) | {
        "group.id": settings.group,
        **({"group.instance.id": settings.instance_id} if settings.instance_id else {}),
        **_group_options(settings),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        # Also makes offset reads wait for open transactions (KIP-447): without it a rewind can read an old offset.
        "isolation.level": "read_committed",
        # Off by default: damaged values would pass for records, and one that cannot be parsed would stop its partition.
        "check.crcs": True,
        # The end of a partition is told with its offset: what lies before it and was not handed out is nothing to read.
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "max.poll.interval.ms": _ms(settings.max_poll_interval_seconds),
        "max.partition.fetch.bytes": settings.fetch_bytes,
        "fetch.max.bytes": 4 * settings.fetch_bytes,
        # It reads ahead by this much, and looks again after the back-off; a second, the default, starves so short a queue.
        "queued.min.messages": max(1_000, 4 * settings.window_records),
        "queued.max.messages.kbytes": max(1, 4 * settings.fetch_bytes // 1024),
        "fetch.queue.backoff.ms": 5,
        # New partitions of the topic are seen after this long.
        "topic.metadata.refresh.interval.ms": 30_000,
    }


def _group_options(settings: Settings) -> dict[str, Any]:
    """How the group shares out its partitions."""
    if settings.kafka_group_protocol == "consumer":
        return {"group.protocol": "consumer"}  # KIP-848: the brokers assign, and have the session's timeout
    # Eager is what kafka-python offers first: members with either client can share a group.
    eager = settings.kafka_group_protocol == "classic"
    return {
        "partition.assignment.strategy": "range,roundrobin" if eager else "cooperative-sticky",
        "session.timeout.ms": _ms(settings.session_timeout_seconds),
        "heartbeat.interval.ms": min(3_000, _ms(settings.session_timeout_seconds) // 3),
    }


def producer_options(settings: Settings, *, batch_bytes: int) -> dict[str, Any]:
    """An idempotent producer whose records wait for flush(), so that a window goes out in few, large batches."""
    largest = 2 * settings.max_review_bytes + 1_048_576
    return connection_options(settings) | {
        "enable.idempotence": True,
        "linger.ms": 100,
        "batch.size": batch_bytes,
        "message.max.bytes": largest,
        "queue.buffering.max.messages": 0,  # no limit but the bytes: a window is sent in one go
        "request.timeout.ms": _ms(settings.kafka_request_timeout_seconds),
        "message.timeout.ms": _ms(settings.kafka_delivery_timeout_seconds),
        "delivery.report.only.error": True,
        "partitioner": "murmur2_random",  # as Kafka's own clients choose
        "retry.backoff.ms": PRODUCER_RETRY_MS,
    }


def transactional_options(settings: Settings, transactional_id: str) -> dict[str, Any]:
    """What a producer of transactions needs beyond `producer_options`."""
    return {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": _ms(settings.transaction_timeout_seconds),
    }


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
