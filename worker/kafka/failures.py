"""What a driver's failures mean to the worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import ConfigError, Fenced, KafkaUnavailable
from worker.kafka.driver import CredentialsRefused, KafkaFailure, Refused, TlsRefused


@contextmanager
def at_start(doing: str) -> Iterator[None]:
    """While the worker starts: what waiting may mend is KafkaUnavailable, what it cannot mend a ConfigError. Both say what
    was being done."""
    try:
        yield
    except Refused as failure:
        raise ConfigError(f"{doing}: {failure}") from failure
    except KafkaFailure as failure:
        raise KafkaUnavailable(f"{doing}: {failure}") from failure


def not_let_in(failure: BaseException | None, brokers: str) -> str | None:
    """The sentence for a failure that only other settings or certificates mend; None for any other."""
    if isinstance(failure, TlsRefused):
        return f"Kafka at {brokers} cannot be talked to by TLS: {failure}"
    if isinstance(failure, CredentialsRefused):
        return (
            f"Kafka at {brokers} refuses the credentials: {failure}. Check kafka-security-protocol, kafka-sasl-mechanism, "
            "and kafka-sasl-username and kafka-sasl-password or the token"
        )
    return None


def replaced(instance_id: str) -> Fenced:
    """The error of a static member (KIP-345) whose place another process has taken: brokers refuse whichever came first."""
    return Fenced(
        f"another live process uses the instance id {instance_id!r}: give each worker its own with --instance-id"
    )
