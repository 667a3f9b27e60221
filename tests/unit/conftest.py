"""What the worker logs, for tests to read."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from worker.observability import logs


@pytest.fixture(autouse=True)
def _unchanged_logging() -> Iterator[None]:
    """The worker configures logging for its whole process; the other tests must not see it."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def log() -> io.StringIO:
    """Where the worker's log lines go in this test."""
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """The lines that were logged, parsed."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]
