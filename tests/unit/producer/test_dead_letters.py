from __future__ import annotations

from datetime import UTC, datetime

import pytest

from producer.dead_letters.finding import Filter, as_found, time_ms
from producer.errors import UsageError
from protos.dead_letters import DeadLetterInfo, headers_for
from worker.records import Record


def record(*, reason: str = "empty", partition: int = 0, timestamp_ms: int = 1_000) -> Record:
    headers = headers_for((), DeadLetterInfo(topic="reviews", partition=2, offset=7, reason=reason, failed_at_ms=5))
    return Record("dead", partition, 3, timestamp_ms, None, b"", headers)


@pytest.mark.parametrize(
    ("text", "age_seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5d", 129_600), ("1w", 604_800)]
)
def test_an_age_is_counted_back_from_now(text: str, age_seconds: int) -> None:
    assert time_ms(text, now_seconds=1_000_000) == (1_000_000 - age_seconds) * 1000


def test_an_iso_time_is_taken_with_its_zone() -> None:
    assert time_ms("2025-01-31T18:00:00+00:00") == datetime(2025, 1, 31, 18, tzinfo=UTC).timestamp() * 1000
    assert time_ms("2025-01-31") == datetime(2025, 1, 31).astimezone().timestamp() * 1000


@pytest.mark.parametrize("text", ["", "yesterday", "2", "h", "-2h", "2 h", "2025-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        time_ms(text)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Filter(), True),
        (Filter(reasons=["empty", "no-text"]), True),
        (Filter(reasons=["malformed"]), False),
        (Filter(partitions=[0]), True),
        (Filter(partitions=[1]), False),
        (Filter(since_ms=1_000), True),
        (Filter(since_ms=1_001), False),
        (Filter(until_ms=1_000), False),
        (Filter(until_ms=1_001), True),
    ],
)
def test_a_filter_takes_what_it_names(wanted: Filter, fits: bool) -> None:
    assert wanted.fits(as_found(record())) is fits


def test_a_dead_letter_without_our_headers_is_still_one() -> None:
    found = as_found(Record("dead", 1, 3, 1_000, b"k", b"v", [("x", b"\xff")]))
    assert (found.position, found.source, found.failed_at_ms) == ("1/3", "", 1_000)
