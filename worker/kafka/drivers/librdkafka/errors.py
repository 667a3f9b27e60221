"""librdkafka's errors in our terms: the one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from worker.kafka.driver import (
    CredentialsRefused,
    FencedInstance,
    FencedProducer,
    KafkaFailure,
    OffsetOutOfRange,
    Refused,
    TlsRefused,
    TooLarge,
    Unreachable,
    UnreadableRecord,
)
from worker.kafka.drivers.librdkafka import tls
from worker.security import TokenUnavailable, Unusable

TABLE: tuple[tuple[type[KafkaFailure], tuple[int, ...]], ...] = (
    (
        CredentialsRefused,
        (
            KafkaError._AUTHENTICATION,
            KafkaError.SASL_AUTHENTICATION_FAILED,
            KafkaError.UNSUPPORTED_SASL_MECHANISM,
            KafkaError.ILLEGAL_SASL_STATE,  # a listener without SASL
        ),
    ),
    (
        Refused,
        (
            KafkaError._INVALID_ARG,  # a setting
            KafkaError._UNSUPPORTED_FEATURE,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            KafkaError.INCONSISTENT_GROUP_PROTOCOL,
            KafkaError.INVALID_GROUP_ID,
            KafkaError.INVALID_SESSION_TIMEOUT,
            KafkaError.INVALID_TRANSACTION_TIMEOUT,
            KafkaError.UNSUPPORTED_VERSION,
        ),
    ),
    # The second is KIP-848's: there whoever comes second is refused.
    (FencedInstance, (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID)),
    # Fatal to a client; a transaction that has timed out says the same.
    (FencedProducer, (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)),
    # There is always a position (see consumer), so the first cannot be for want of one.
    (OffsetOutOfRange, (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION)),
    (
        UnreadableRecord,
        (
            KafkaError._BAD_MSG,
            KafkaError._BAD_COMPRESSION,
            KafkaError._NOT_IMPLEMENTED,  # a codec: it has all there are
            KafkaError.INVALID_MSG,
        ),
    ),
    (TooLarge, (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)),
    (
        Unreachable,
        (
            KafkaError._ALL_BROKERS_DOWN,
            KafkaError._MSG_TIMED_OUT,
            KafkaError._RESOLVE,
            KafkaError._SSL,
            KafkaError._TIMED_OUT,
            KafkaError._TIMED_OUT_QUEUE,
            KafkaError._TRANSPORT,
            KafkaError._WAIT_COORD,
        ),
    ),
)
"""The first row that fits counts. Beyond it, the client's own `retriable` says whether the brokers are merely away."""

_BY_CODE = {code: ours for ours, codes in reversed(TABLE) for code in codes}


def ours(error: KafkaError | BaseException) -> KafkaFailure:
    """The failure that the client's error is; one of ours stays as it is."""
    if isinstance(error, KafkaFailure):
        return error
    cause = error if isinstance(error, BaseException) else None
    told = error.args[0] if isinstance(error, KafkaException) else error
    if isinstance(told, KafkaError):
        beyond = Unreachable if told.retriable() else KafkaFailure
        failure = _BY_CODE.get(told.code(), beyond)(_explain(told), told.name())
    else:
        failure = KafkaFailure(" ".join(str(error).split()), type(error).__name__)
    failure.__cause__ = cause
    return failure


@contextmanager
def translated() -> Iterator[None]:
    """Raises what the client raises within it as ours; other errors are bugs, and stay. BufferError: its queue is full."""
    try:
        yield
    except (KafkaException, BufferError) as error:
        raise ours(error) from error
    except TokenUnavailable as error:
        raise CredentialsRefused(str(error), type(error).__name__) from error
    except Unusable as error:
        raise Unreachable(str(error), type(error).__name__) from error


class Heard:
    """What a client tells of itself beside the answers to calls: made for its setting `error_cb`, and called in the thread
    that polls it."""

    def __init__(self) -> None:
        self.refusal: CredentialsRefused | TlsRefused | None = None
        """The credentials or a certificate were refused, the last time it connected."""
        self.fatal: KafkaFailure | None = None
        """It is of no further use, and this is why."""

    def __call__(self, error: KafkaError) -> None:
        """See the class. Never raises: the client would lose what it is about to hand out."""
        told = tls.refusal(error)
        failure = ours(error) if told is None else TlsRefused(told, error.name())
        if isinstance(failure, (CredentialsRefused, TlsRefused)):
            self.refusal = failure
        elif error.fatal():
            self.fatal = self.fatal or failure


def _explain(error: KafkaError) -> str:
    """The error's name and text in one line."""
    text = " ".join(error.str().split())
    return f"{error.name()}: {text}" if text else error.name()
