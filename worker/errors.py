"""The worker's errors. Adapters translate foreign exceptions into these once, and keep the cause.

Each class carries the exit code the process ends with when the error reaches `__main__`
(values below 64 are ours, the rest follow BSD sysexits.h).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

from worker.records import Reason


class ExitCode(IntEnum):
    """How a worker's process ends, for init systems and people."""

    OK = 0
    BUG = 1
    USAGE = 2
    STOPPED_HARD = 3
    """A second SIGTERM, the end of the grace period or a delivery that failed after the first: what was in flight was
    abandoned, nothing was lost."""
    DEAD_LETTER_BRAKE = 4
    FENCED = 5
    """Another live process uses this worker's transactional id."""
    OFFSETS_LOST = 6
    """The committed offsets are gone from the topic, or the topic was deleted and recreated."""
    UNAVAILABLE = 69
    """Kafka or TensorFlow Serving could not be reached at start."""
    MODEL_MISMATCH = 76
    """The served model does not fit the settings."""
    CONFIG = 78


class WorkerError(Exception):
    """Base of all errors the worker raises on purpose. The message is a sentence for a person."""

    exit_code = ExitCode.BUG


class ConfigError(WorkerError):
    """The settings contradict themselves or the world they name."""

    exit_code = ExitCode.CONFIG


class InvalidReview(WorkerError):
    """This record can never be answered; it becomes a dead letter."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Cause(StrEnum):
    """Why the model server could not answer, as far as it decides what is done next."""

    AWAY = "AWAY"
    """No connection, no answer in time, or a failure of the server's own."""
    OVERLOADED = "OVERLOADED"
    """The server says that it is full: never a review's fault."""
    BAD_REPLY = "BAD_REPLY"
    """It answered, and the reply failed its checks."""
    NO_VERSION = "NO_VERSION"
    """It answered, and it serves no version for us."""


class ServingUnavailable(WorkerError):
    """The model server could not answer now (away, overloaded, too slow, or its reply made no sense).

    Wait and ask again: as far as this one answer tells, nothing is wrong with the reviews. `cause` is what to decide on;
    `status` is the adapter's name for what happened, for metrics and logs alone.
    """

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, message: str, cause: Cause = Cause.AWAY, *, status: str = "") -> None:
        super().__init__(message)
        self.cause = cause
        self.status = status or cause.value


class ServingRejected(WorkerError):
    """The model server says that this very request is wrong. Asking again changes nothing; bisecting may. `status` is the
    adapter's name for it, for metrics and logs alone."""

    def __init__(self, message: str, *, status: str = "REJECTED") -> None:
        super().__init__(message)
        self.status = status


class ModelGone(WorkerError):
    """The version asked for is not served any more: encode again for one that is."""


class ModelMismatch(WorkerError):
    """The served model does not fit the settings; the message names its real inputs, dtypes and shapes."""

    exit_code = ExitCode.MODEL_MISMATCH
    status = "MODEL_MISMATCH"
    """For metrics and logs."""


class SourceLost(WorkerError):
    """The right to the polled partitions changed hands: what is in flight is void, positions were reset."""


class OffsetsLost(WorkerError):
    """Committed offsets are out of the topic's range, or the topic was recreated. Never skipped silently."""

    exit_code = ExitCode.OFFSETS_LOST


class DeliveryFailed(WorkerError):
    """The window was not delivered (or it cannot be known that it was): drop what is in flight and rewind."""


class Fenced(WorkerError):
    """Fenced again and again: another live process runs with this worker's identity."""

    exit_code = ExitCode.FENCED


class DeadLetterLimitReached(WorkerError):
    """Too many dead letters: more likely a wrong setting than bad reviews."""

    exit_code = ExitCode.DEAD_LETTER_BRAKE


class KafkaUnavailable(WorkerError):
    """Kafka could not be reached at start, or refuses us."""

    exit_code = ExitCode.UNAVAILABLE
