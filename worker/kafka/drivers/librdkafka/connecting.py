"""Waits for a client's first connection, and sees at once that the brokers refuse its credentials."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer

from worker.kafka.driver import KafkaFailure
from worker.kafka.drivers.librdkafka.errors import Heard, translated
from worker.ports import Clock

LISTEN_SECONDS = 0.1
"""How often it is looked whether a refusal came: the client tries again and again, and tells only when it is polled."""


def connect(client: Consumer | Producer, heard: Heard, topic: str, *, seconds: float, clock: Clock) -> None:
    """Returns once a broker has answered. Raises CredentialsRefused, and Unreachable after `seconds`."""
    deadline = clock.monotonic() + seconds
    while True:
        try:
            with translated():
                client.list_topics(topic, timeout=LISTEN_SECONDS)
        except KafkaFailure:
            client.poll(0)
            if heard.refusal is not None:
                raise heard.refusal from None
            if clock.monotonic() >= deadline:
                raise
        else:
            return
