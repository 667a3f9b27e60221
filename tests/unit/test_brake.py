from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.brake import LEAST, Brake
from worker.errors import DeadLetterBrake


def test_a_run_of_dead_letters_stops() -> None:
    brake = Brake(share=1.0, run=10)
    brake.check(0, 10)
    with pytest.raises(DeadLetterBrake, match="11 records were all dead letters"):
        brake.check(0, 1)


def test_one_result_ends_a_run() -> None:
    brake = Brake(share=1.0, run=10)
    for _ in range(100):
        brake.check(0, 10)
        brake.check(1, 0)


def test_a_share_counts_only_once_enough_was_seen() -> None:
    brake = Brake(share=0.5, run=0)
    brake.check(10, LEAST - 11)
    with pytest.raises(DeadLetterBrake, match=r"share of 0\.5"):
        brake.check(0, 1)


def test_the_share_forgets_what_is_long_ago() -> None:
    brake = Brake(share=0.5, run=0)
    brake.check(10_000, 0)
    brake.check(400, 0)
    for _ in range(9):
        brake.check(40, 60)  # at most 540 of the last 1,300
    with pytest.raises(DeadLetterBrake):
        brake.check(0, 100)


def stops(brake: Brake, windows: list[tuple[int, int, int]], *, amended: bool) -> list[int]:
    """At which windows it stops: each of so many results, dead letters, and results that became dead letters after all,
    told in two steps or at once."""
    stopped = []
    for number, (results, dead_letters, replaced) in enumerate(windows):
        try:
            if amended:
                brake.check(results + replaced, dead_letters)
                brake.amend(replaced)
            else:
                brake.check(results, dead_letters + replaced)
        except DeadLetterBrake:
            stopped.append(number)
    return stopped


SOME = st.one_of(st.just(0), st.integers(0, 300))


@given(st.lists(st.tuples(SOME, SOME, SOME)), st.sampled_from([0.2, 0.5, 1.0]), st.sampled_from([0, 10, 500]))
def test_a_window_amended_is_as_one_that_was_told_right_at_once(
    windows: list[tuple[int, int, int]], share: float, run: int
) -> None:
    at_once = stops(Brake(share=share, run=run), windows, amended=False)[:1]
    assert stops(Brake(share=share, run=run), windows, amended=True)[:1] == at_once


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300))))
def test_switched_off_it_never_stops(windows: list[tuple[int, int]]) -> None:
    brake = Brake(share=1.0, run=0)
    for results, dead_letters in windows:
        brake.check(results, dead_letters)
