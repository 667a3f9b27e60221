from __future__ import annotations

import itertools

import pytest

from producer.pacing import Pacer


class Time:
    """A clock that moves only when told or slept on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def test_calls_are_spread_evenly() -> None:
    time = Time()
    pacer = Pacer(10, monotonic=time.monotonic, sleep=time.sleep)
    moments = []
    for _ in range(31):
        pacer.wait()
        moments.append(time.now)
        time.now += 0.03  # the work between
    assert moments[-1] - moments[0] == pytest.approx(3.0)
    assert all(later - earlier == pytest.approx(0.1) for earlier, later in itertools.pairwise(moments))


def test_a_long_stall_is_followed_by_one_second_of_catching_up_at_most() -> None:
    time = Time()
    pacer = Pacer(10, monotonic=time.monotonic, sleep=time.sleep)
    pacer.wait()
    time.now += 3600
    at_once = 0
    while time.slept == 0:
        pacer.wait()
        at_once += 1
    assert 10 <= at_once <= 13


def test_without_a_rate_it_never_sleeps() -> None:
    time = Time()
    pacer = Pacer(None, monotonic=time.monotonic, sleep=time.sleep)
    for _ in range(100):
        pacer.wait()
    assert time.slept == 0
