from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import DeadLetterBrake
from worker.pipeline.dead_letter_limit import LEAST, Brake


def test_a_run_of_dead_letters_stops() -> None:
    brake = Brake(share=1.0, run=10)
    brake.count(0, 10)
    with pytest.raises(DeadLetterBrake, match="11 records were all dead letters"):
        brake.check(0, 1)


def test_one_result_ends_a_run() -> None:
    brake = Brake(share=1.0, run=10)
    for _ in range(100):
        brake.count(0, 10)
        brake.count(1, 0)


def test_a_share_counts_only_once_enough_was_seen() -> None:
    brake = Brake(share=0.5, run=0)
    brake.count(10, LEAST - 11)
    with pytest.raises(DeadLetterBrake, match=r"share of 0\.5"):
        brake.check(0, 1)


def test_the_share_forgets_what_is_long_ago() -> None:
    brake = Brake(share=0.5, run=0)
    brake.count(10_000, 0)
    brake.count(400, 0)
    for _ in range(9):
        brake.count(40, 60)  # at most 540 of the last 1,300
    with pytest.raises(DeadLetterBrake):
        brake.check(0, 100)


def test_a_window_counts_once_however_often_its_delivery_was_tried() -> None:
    brake = Brake(share=0.5, run=100)
    brake.count(150, 0)
    for _ in range(50):
        brake.check(0, 60)
    brake.count(0, 60)
    with pytest.raises(DeadLetterBrake, match="120 records were all dead letters"):
        brake.check(0, 60)
    brake.check(0, 40)


def stops(brake: Brake, windows: list[tuple[int, int, int]], *, refused_at_delivery: bool) -> list[int]:
    """At which windows it stops: each of so many results, dead letters, and results that became dead letters after all,
    known at the delivery only or before it."""
    stopped = []
    for number, (results, dead_letters, replaced) in enumerate(windows):
        try:
            if refused_at_delivery:
                brake.check(results + replaced, dead_letters)
            else:
                brake.check(results, dead_letters + replaced)
            brake.count(results, dead_letters + replaced)
        except DeadLetterBrake:
            stopped.append(number)
    return stopped


SOME = st.one_of(st.just(0), st.integers(0, 300))


@given(st.lists(st.tuples(SOME, SOME, SOME)), st.sampled_from([0.2, 0.5, 1.0]), st.sampled_from([0, 10, 500]))
def test_what_the_delivery_refused_counts_as_if_it_had_been_known_before(
    windows: list[tuple[int, int, int]], share: float, run: int
) -> None:
    before = stops(Brake(share=share, run=run), windows, refused_at_delivery=False)[:1]
    assert stops(Brake(share=share, run=run), windows, refused_at_delivery=True)[:1] == before


@given(st.lists(st.tuples(st.integers(0, 1_500), st.integers(0, 1_500))), st.sampled_from([0.2, 0.5, 1.0]))
def test_a_window_is_refused_before_its_delivery_whenever_it_would_be_after_it(
    windows: list[tuple[int, int]], share: float
) -> None:
    brake = Brake(share=share, run=500)
    for results, dead_letters in windows:
        before = refused(brake.check, results, dead_letters)
        assert refused(brake.count, results, dead_letters) == before


def refused(look: Callable[[int, int], None], results: int, dead_letters: int) -> bool:
    try:
        look(results, dead_letters)
    except DeadLetterBrake:
        return True
    return False


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300))))
def test_switched_off_it_never_stops(windows: list[tuple[int, int]]) -> None:
    brake = Brake(share=1.0, run=0)
    for results, dead_letters in windows:
        brake.check(results, dead_letters)
        brake.count(results, dead_letters)
