"""How the process ends."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; those above 63 are from BSD's sysexits.h."""

    STOPPED = 0
    USAGE = 2
    MODEL = 65
    """A model does not load."""
    UNAVAILABLE = 69
    """A port is taken."""
    CONFIG = 78
    """A wrong configuration."""


class StartError(Exception):
    """The server cannot start; the message is a sentence that says why and what to do."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
