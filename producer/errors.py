"""What can go wrong for a person at a terminal, and the exit codes that tell scripts the same (BSD sysexits.h)."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How an `inferry-producer` command ends."""

    OK = 0
    FAILED = 1
    """Something was not delivered, or not all that was asked for came."""
    USAGE = 2
    BAD_DATA = 65
    """EX_DATAERR: the input is there, but it is not what it should be."""
    NO_INPUT = 66
    """EX_NOINPUT: a file cannot be read, or nothing is at the place asked for."""
    UNAVAILABLE = 69
    """EX_UNAVAILABLE: Kafka or the model server does not answer, or the topic is missing."""
    TIMED_OUT = 75
    """EX_TEMPFAIL: what was waited for had not come when the time was up; trying again may help."""
    CONFIG = 78
    """EX_CONFIG: the settings of the connection contradict themselves."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM; what had been sent was flushed and counted first."""


class ProducerError(Exception):
    """Base of every expected failure. The message is a sentence for a person."""

    exit_code = ExitCode.FAILED


class UsageError(ProducerError):
    """The options contradict each other, or one has a value that means nothing."""

    exit_code = ExitCode.USAGE


class BadInput(ProducerError):
    """The input is not in the form it should have."""

    exit_code = ExitCode.BAD_DATA


class NoInput(ProducerError):
    """What should be read is not there or may not be read."""

    exit_code = ExitCode.NO_INPUT


class Unavailable(ProducerError):
    """Kafka or the model server could not be reached, refused us, or lacks the topic."""

    exit_code = ExitCode.UNAVAILABLE


class TimedOut(ProducerError):
    """What was waited for did not come in time."""

    exit_code = ExitCode.TIMED_OUT


class ConnectionConfigError(ProducerError):
    """The connection's settings contradict themselves."""

    exit_code = ExitCode.CONFIG
