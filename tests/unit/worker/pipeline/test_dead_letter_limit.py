from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import DeadLetterLimitReached
from worker.pipeline.dead_letter_limit import LEAST, DeadLetterLimit


def test_a_run_of_dead_letters_stops() -> None:
    limit = DeadLetterLimit(share=1.0, run=10)
    limit.count(0, 10)
    with pytest.raises(DeadLetterLimitReached, match="11 records were all dead letters"):
        limit.check(0, 1)


def test_one_result_ends_a_run() -> None:
    limit = DeadLetterLimit(share=1.0, run=10)
    for _ in range(100):
        limit.count(0, 10)
        limit.count(1, 0)


def test_a_share_counts_only_once_enough_was_seen() -> None:
    limit = DeadLetterLimit(share=0.5, run=0)
    limit.count(10, LEAST - 11)
    with pytest.raises(DeadLetterLimitReached, match=r"share of 0\.5"):
        limit.check(0, 1)


def test_the_share_forgets_what_is_long_ago() -> None:
    limit = DeadLetterLimit(share=0.5, run=0)
    limit.count(10_000, 0)
    limit.count(400, 0)
    for _ in range(9):
        limit.count(40, 60)  # at most 540 of the last 1,300
    with pytest.raises(DeadLetterLimitReached):
        limit.check(0, 100)


def test_a_window_counts_once_however_often_its_delivery_was_tried() -> None:
    limit = DeadLetterLimit(share=0.5, run=100)
    limit.count(150, 0)
    for _ in range(50):
        limit.check(0, 60)
    limit.count(0, 60)
    with pytest.raises(DeadLetterLimitReached, match="120 records were all dead letters"):
        limit.check(0, 60)
    limit.check(0, 40)


def stops(limit: DeadLetterLimit, windows: list[tuple[int, int, int]], *, refused_at_delivery: bool) -> list[int]:
    """At which windows it stops: each of so many results, dead letters, and results that became dead letters after all,
    known at the delivery only or before it."""
    stopped = []
    for number, (results, dead_letters, replaced) in enumerate(windows):
        try:
            if refused_at_delivery:
                limit.check(results + replaced, dead_letters)
            else:
                limit.check(results, dead_letters + replaced)
            limit.count(results, dead_letters + replaced)
        except DeadLetterLimitReached:
            stopped.append(number)
    return stopped


SOME = st.one_of(st.just(0), st.integers(0, 300))


@given(st.lists(st.tuples(SOME, SOME, SOME)), st.sampled_from([0.2, 0.5, 1.0]), st.sampled_from([0, 10, 500]))
def test_what_the_delivery_refused_counts_as_if_it_had_been_known_before(
    windows: list[tuple[int, int, int]], share: float, run: int
) -> None:
    before = stops(DeadLetterLimit(share=share, run=run), windows, refused_at_delivery=False)[:1]
    assert stops(DeadLetterLimit(share=share, run=run), windows, refused_at_delivery=True)[:1] == before


@given(st.lists(st.tuples(st.integers(0, 1_500), st.integers(0, 1_500))), st.sampled_from([0.2, 0.5, 1.0]))
def test_a_window_is_refused_before_its_delivery_whenever_it_would_be_after_it(
    windows: list[tuple[int, int]], share: float
) -> None:
    limit = DeadLetterLimit(share=share, run=500)
    for results, dead_letters in windows:
        before = refused(limit.check, results, dead_letters)
        assert refused(limit.count, results, dead_letters) == before


def refused(look: Callable[[int, int], None], results: int, dead_letters: int) -> bool:
    try:
        look(results, dead_letters)
    except DeadLetterLimitReached:
        return True
    return False


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300))))
def test_switched_off_it_never_stops(windows: list[tuple[int, int]]) -> None:
    limit = DeadLetterLimit(share=1.0, run=0)
    for results, dead_letters in windows:
        limit.check(results, dead_letters)
        limit.count(results, dead_letters)
