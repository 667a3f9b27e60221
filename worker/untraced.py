"""Tracing for whoever records no traces: windows are numbered for the log, and nothing else is done."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import structlog

from worker.ports import CallTrace, ServedModel
from worker.records import DeadLetter, Headers, Labelled, Retry, Window

_NOTHING: AbstractContextManager[None] = nullcontext()
_NO_CONTEXTS: Mapping[str, Headers] = {}


class UntracedWindow:
    """A `ports.WindowTrace` that records nothing."""

    def __init__(self, number: int) -> None:
        """`number` is the window's in log lines."""
        self._number = number

    def active(self) -> AbstractContextManager[None]:
        """See ports.WindowTrace."""
        return structlog.contextvars.bound_contextvars(window=self._number)

    def encoding(self, served: ServedModel) -> AbstractContextManager[None]:  # noqa: ARG002  the port's
        """See ports.WindowTrace."""
        return _NOTHING

    def call(self, rows: int, served: ServedModel) -> CallTrace | None:  # noqa: ARG002  the port's
        """See ports.WindowTrace."""
        return None

    def retrying(self, retry: Retry) -> None:
        """See ports.WindowTrace."""

    def answered(
        self,
        results: Sequence[Labelled],  # noqa: ARG002  the port's
        dead_letters: Sequence[DeadLetter],  # noqa: ARG002  the port's
    ) -> Mapping[str, Headers]:
        """See ports.WindowTrace."""
        return _NO_CONTEXTS

    def delivered(self, replaced: Sequence[DeadLetter]) -> None:
        """See ports.WindowTrace."""

    def given_up(self, why: str) -> None:
        """See ports.WindowTrace."""


class Untraced:
    """A `ports.Tracing` that only numbers the windows."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def polled(self, window: Window) -> UntracedWindow:  # noqa: ARG002  the port's
        """See ports.Tracing."""
        return UntracedWindow(next(self._numbers))

    def close(self) -> None:
        """See ports.Tracing."""
