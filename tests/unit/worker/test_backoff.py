"""Waits between attempts: they double, they are jittered, and they are bounded."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from worker.backoff import Backoff


class Edge(random.Random):
    """Draws the lowest or the highest of what it may."""

    def __init__(self, *, highest: bool) -> None:
        super().__init__(0)
        self._highest = highest

    def uniform(self, a: float, b: float) -> float:
        return b if self._highest else a


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 1.0)
    assert [backoff.after(n, Edge(highest=True)) for n in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert [backoff.after(n, Edge(highest=False)) for n in range(1, 7)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


@given(st.floats(0.001, 10), st.floats(1, 1000), st.integers(1, 10**9), st.integers())
def test_every_wait_is_in_the_upper_half_of_its_bound(delay: float, factor: float, attempt: int, seed: int) -> None:
    backoff = Backoff(delay, delay * factor)
    wait = backoff.after(attempt, random.Random(seed))
    assert delay / 2 <= wait <= delay * factor
