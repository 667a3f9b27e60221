"""The trainer's errors: each message is a sentence for a person, and none of them deserves a traceback."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How `inferry-trainer` ends. The numbers agree with the worker's (`worker/errors.py`) where both have one."""

    OK = 0
    USAGE = 2
    BELOW_STANDARD = 8
    """The model was trained, but its accuracy or one of the example sentences came out wrong; it was not exported."""
    DATA = 65
    """The data, a vocabulary or a tokenizer file is not what it should be (EX_DATAERR)."""
    UNAVAILABLE = 69
    """The model server could not be reached (EX_UNAVAILABLE)."""
    CANNOT_CREATE = 73
    """A model version or a report could not be written (EX_CANTCREAT)."""
    CONFIG = 78
    """Something that has to be installed or named is missing (EX_CONFIG)."""
    INTERRUPTED = 130
    """Ctrl-C, by the shell's convention."""


class TrainerError(Exception):
    """Base of all errors the trainer raises on purpose."""

    exit_code = ExitCode.CONFIG


class MissingExtra(TrainerError):
    """The `[trainer]` extra is not installed."""


class DataError(TrainerError):
    """Data, vocabulary or tokenizer that cannot be used."""

    exit_code = ExitCode.DATA


class ExportError(TrainerError):
    """A version or a report could not be written; what was there before is untouched."""

    exit_code = ExitCode.CANNOT_CREATE


class BelowStandard(TrainerError):
    """The trained model does not keep its promises."""

    exit_code = ExitCode.BELOW_STANDARD


class VersionError(TrainerError):
    """A model version that was named is not there, or must not be touched."""

    exit_code = ExitCode.USAGE


class ServerUnavailable(TrainerError):
    """The model server did not answer."""

    exit_code = ExitCode.UNAVAILABLE
