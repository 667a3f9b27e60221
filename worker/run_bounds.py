"""Where a run starts and where it ends, as the settings `start` and `until` say it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum


class Edge(StrEnum):
    """A place that needs no number."""

    COMMITTED = "committed"
    EARLIEST = "earliest"
    LATEST = "latest"
    END = "end"


Start = Edge | int | Mapping[int, int]
"""An edge, a timestamp in milliseconds since the epoch, or an offset for each partition named."""
Until = Edge | int | Mapping[int, int] | None
"""END, a timestamp in milliseconds since the epoch, an offset for each partition named, or None: for ever."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

_OFFSETS = re.compile(r"\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*")


def parse_start(text: str) -> Start:
    """`committed`, `earliest`, `latest`, an ISO 8601 timestamp (UTC unless it says otherwise) or `0:120,1:80`.

    Raises ValueError with a sentence."""
    if text in (Edge.COMMITTED, Edge.EARLIEST, Edge.LATEST):
        return Edge(text)
    if _OFFSETS.fullmatch(text):
        return _offsets(text)
    return _timestamp_ms(
        text, "start", "committed, earliest, latest, a timestamp such as 2026-01-31T12:00 or offsets as 0:120,1:80"
    )


def parse_until(text: str) -> Until:
    """`end`, an ISO 8601 timestamp, offsets as `0:120,1:80`, or nothing at all. Raises ValueError with a sentence."""
    if not text:
        return None
    if text == Edge.END:
        return Edge.END
    if _OFFSETS.fullmatch(text):
        return _offsets(text)
    return _timestamp_ms(text, "until", "end, a timestamp such as 2026-01-31T12:00 or offsets as 0:120,1:80")


def _offsets(text: str) -> dict[int, int]:
    pairs = [pair.split(":") for pair in text.split(",")]
    return {int(partition): int(offset) for partition, offset in pairs}


def _timestamp_ms(text: str, setting: str, choices: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{setting} is {text!r}; it can be {choices}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // MILLISECOND
