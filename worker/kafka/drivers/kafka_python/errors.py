"""kafka-python's errors in our terms: the one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors as kafka_errors

from worker.kafka.driver import (
    CredentialsRefused,
    FencedInstance,
    FencedProducer,
    KafkaFailure,
    NoCommittedOffset,
    OffsetOutOfRange,
    Refused,
    TlsRefused,
    TooLarge,
    Unreachable,
    UnreadableRecord,
)
from worker.security import Unusable


class _Told(kafka_errors.AuthorizationError):  # type: ignore[misc]  # kafka-python ships no types
    """Its text is a sentence of ours, without the number that the client puts before."""

    def __str__(self) -> str:
        return " ".join(str(argument) for argument in self.args)


class TlsRefusedError(_Told):
    """Made by first_connect: the client itself takes every failed handshake for an outage."""


class NoToken(_Told):
    """There is no OAUTHBEARER token to be had. Made by first_connect, too."""


class TokenAway(kafka_errors.KafkaConnectionError):  # type: ignore[misc]
    """There is no token now. To the client that is an outage: it connects again, and asks for one then."""

    def __str__(self) -> str:
        return str(self.args[0])


CREDENTIALS = (
    NoToken,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,  # a listener without SASL
)
"""How brokers answer credentials that they do not take, and that there are none to show."""

TABLE: tuple[tuple[type[KafkaFailure], tuple[type[BaseException], ...]], ...] = (
    (TlsRefused, (TlsRefusedError,)),
    (CredentialsRefused, CREDENTIALS),
    (
        Refused,
        (
            kafka_errors.AuthorizationError,
            kafka_errors.UnsupportedCodecError,
            kafka_errors.KafkaConfigurationError,
            kafka_errors.IncompatibleBrokerVersion,
        ),
    ),
    (FencedInstance, (kafka_errors.FencedInstanceIdError,)),
    (FencedProducer, (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)),
    (NoCommittedOffset, (kafka_errors.NoOffsetForPartitionError,)),
    (OffsetOutOfRange, (kafka_errors.OffsetOutOfRangeError, kafka_errors.LogTruncationError)),
    (UnreadableRecord, (kafka_errors.CorruptRecordError,)),
    (TooLarge, (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)),
)
"""The first row that fits counts. Beyond it, the client's own `retriable` says whether the brokers are merely away."""


def ours(error: BaseException) -> KafkaFailure:
    """The failure that a KafkaError or an OSError is; one of ours stays as it is."""
    if isinstance(error, KafkaFailure):
        return error
    kind = next((ours for ours, theirs in TABLE if isinstance(error, theirs)), None)
    if kind is None:
        away = isinstance(error, OSError) or getattr(error, "retriable", False)
        kind = Unreachable if away else KafkaFailure
    failure = kind(_explain(error), type(error).__name__)
    failure.__cause__ = error
    return failure


@contextmanager
def translated() -> Iterator[None]:
    """Raises what the client raises within it as ours; errors that are neither the client's nor the system's are bugs, and
    stay."""
    try:
        yield
    except (kafka_errors.KafkaError, OSError) as error:
        raise ours(error) from error
    except Unusable as error:  # a secret's file went away: it may come back
        raise Unreachable(str(error), type(error).__name__) from error


def _explain(error: BaseException) -> str:
    """The error's class and text in one line, without the client's boilerplate."""
    text = " ".join(str(error).split())
    if isinstance(error, _Told):
        return text
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        text += "; pip install 'inferry[compression]' brings it"
    name = type(error).__name__
    return text if text.startswith(name) or not text else f"{name}: {text}"
