"""Where a run starts and ends, as the settings say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.run_bounds import Edge, parse_start, parse_until

MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1))  # noqa: DTZ001  zones are drawn apart
ZONES = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@pytest.mark.parametrize("edge", [Edge.COMMITTED, Edge.EARLIEST, Edge.LATEST])
def test_a_start_can_be_an_edge(edge: Edge) -> None:
    assert parse_start(edge.value) is edge


@given(st.dictionaries(st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1), min_size=1, max_size=5))
def test_a_start_and_an_end_can_be_offsets(offsets: dict[int, int]) -> None:
    text = ",".join(f"{partition}:{offset}" for partition, offset in offsets.items())
    assert parse_start(text) == parse_until(text) == offsets


@given(MOMENTS, ZONES)
@example(datetime(2004, 2, 1, 0, 0, 0, 31_000), UTC)  # noqa: DTZ001  a millisecond that binary fractions miss
def test_a_moment_means_the_same_in_every_zone(moment: datetime, zone: timezone) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
    milliseconds = round(moment.timestamp() * 1000)
    assert parse_start(moment.astimezone(zone).isoformat()) == parse_until(moment.isoformat()) == milliseconds


def test_a_moment_without_a_zone_is_in_utc() -> None:
    assert parse_start("2026-01-31T12:00") == parse_start("2026-01-31T12:00Z") == 1_769_860_800_000
    assert parse_until("2026-01-31") == 1_769_817_600_000


def test_no_end_and_the_end() -> None:
    assert parse_until("") is None
    assert parse_until("end") is Edge.END


@pytest.mark.parametrize(
    "text", ["", "end", "yesterday", "0:", "0:-1", "0:1,", "a:1", "0:1;1:2", "1:" + "9" * 19, "12"]
)
def test_a_start_that_is_none_of_these_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ValueError, match=r"start is .* it can be committed, earliest, latest"):
        parse_start(text)


@pytest.mark.parametrize("text", ["latest", "earliest", "committed", "0:5,", "0:-1", "tomorrow"])
def test_an_end_that_is_none_of_these_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ValueError, match=r"until is .* it can be end, a timestamp such as .* or offsets"):
        parse_until(text)
