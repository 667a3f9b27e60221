"""The limit of requests in flight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.serving.limiter import AdaptiveLimit


@given(st.integers(1, 64), st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=200))
def test_it_stays_between_one_and_its_maximum(maximum: int, outcomes: list[tuple[bool, float]]) -> None:
    limit, now = AdaptiveLimit(maximum), 0.0
    for good, seconds in outcomes:
        started, now = now, now + seconds
        if good:
            limit.succeeded()
        else:
            limit.overloaded(started, now)
        assert 1 <= limit.value <= maximum


def test_an_overload_halves_it_and_a_round_of_successes_raises_it_by_about_one() -> None:
    limit = AdaptiveLimit(16)
    limit.overloaded(started=1.0, now=2.0)
    assert limit.value == 8

    for _ in range(9):
        limit.succeeded()
    assert limit.value == 9


def test_it_grows_back_to_its_maximum_and_no_further() -> None:
    limit = AdaptiveLimit(4)
    for moment in range(5):
        limit.overloaded(started=moment, now=moment)
    assert limit.value == 1

    for _ in range(100):
        limit.succeeded()
    assert limit.value == 4


def test_requests_that_started_before_the_decrease_do_not_lower_it_again() -> None:
    limit = AdaptiveLimit(16)
    for ended in (2.0, 2.1, 2.2):
        limit.overloaded(started=1.0, now=ended)
    assert limit.value == 8

    limit.overloaded(started=2.05, now=3.0)
    assert limit.value == 4


@pytest.mark.parametrize("maximum", [1, 2])
def test_a_small_maximum_works_as_well(maximum: int) -> None:
    limit = AdaptiveLimit(maximum)
    limit.overloaded(started=0.0, now=1.0)
    assert limit.value == 1
    limit.succeeded()
    assert limit.value == maximum
