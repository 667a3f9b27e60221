"""How the one-machine stack fails: a sentence for a person and an exit code with a name."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How `inferry-local` ends. Values from 64 on follow BSD sysexits.h, as the worker's do."""

    OK = 0
    BUG = 1
    USAGE = 2
    NOT_RUNNING = 3
    """`status` or `down` found no stack."""
    ALREADY_RUNNING = 4
    UNAVAILABLE = 69
    """A program of the stack died or did not become ready, or the network is needed and not there."""
    MISSING_PREREQUISITE = 72
    """No Java, or a package of the stack is not installed."""
    DISK_FULL = 73
    PORT_TAKEN = 75
    DAMAGED = 76
    """A downloaded file does not match its digest in the lock."""


class LocalError(Exception):
    """Base of the stack's expected failures. The message says what, where, and what to do."""

    exit_code = ExitCode.UNAVAILABLE


class NoNetwork(LocalError):
    """A download is needed and the repository cannot be reached."""


class ProcessDied(LocalError):
    """A program of the stack ended by itself, or did not become ready in time."""


class MissingPrerequisite(LocalError):
    """Something the machine or the environment lacks."""

    exit_code = ExitCode.MISSING_PREREQUISITE


class DiskFull(LocalError):
    """There is no room left for Kafka's jars or data."""

    exit_code = ExitCode.DISK_FULL


class PortTaken(LocalError):
    """A port that was asked for by number is in use."""

    exit_code = ExitCode.PORT_TAKEN


class Damaged(LocalError):
    """A downloaded file is not the one that was locked."""

    exit_code = ExitCode.DAMAGED


class AlreadyRunning(LocalError):
    """This folder's stack is up already."""

    exit_code = ExitCode.ALREADY_RUNNING


class NotRunning(LocalError):
    """This folder's stack is not up."""

    exit_code = ExitCode.NOT_RUNNING
