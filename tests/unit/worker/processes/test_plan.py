"""When processes are started, started again, or not any more, and with which exit code all of it ends."""

from __future__ import annotations

import random
import signal

import pytest

from worker.backoff import Backoff
from worker.errors import ExitCode
from worker.processes.plan import FROM_BEST_TO_WORST, NEVER_MENDED, STEADY_SECONDS, Plan, told

DELAY_SECONDS, LONGEST_SECONDS = 1.0, 8.0
NOW = 1_000.0


def plan(count: int = 2, *, bounded: bool = False, first_alone: bool = False, running: bool = True) -> Plan:
    """All started at NOW; `running`: and one of them past its start."""
    made = Plan(
        count, Backoff(DELAY_SECONDS, LONGEST_SECONDS), random.Random(0), bounded=bounded, first_alone=first_alone
    )
    for number in made.due(NOW):
        made.started(number, NOW)
    if running:
        made.ran()
    return made


def test_all_start_at_once() -> None:
    made = Plan(3, Backoff(1, 1), random.Random(0), bounded=False, first_alone=False)
    assert made.due(NOW) == [0, 1, 2]
    assert made.wait_seconds(NOW) == 0


def test_the_first_starts_alone_where_it_works_out_the_bounds() -> None:
    made = plan(3, first_alone=True)
    assert made.due(NOW) == []
    assert made.wait_seconds(NOW) is None
    made.bounds_known()
    assert made.due(NOW) == [1, 2]


@pytest.mark.parametrize("code", [-signal.SIGKILL, ExitCode.BUG, ExitCode.STOPPED_HARD, ExitCode.UNAVAILABLE, 0, 99])
def test_one_that_ends_is_started_again_after_a_wait(code: int) -> None:
    made = plan()
    retry = made.ended(1, code, NOW + 5)
    assert retry is not None
    assert (retry.what, retry.status, retry.attempt) == ("process", told(code), 1)
    assert DELAY_SECONDS / 2 <= retry.delay_seconds <= DELAY_SECONDS
    assert made.due(NOW + 5) == []
    assert made.wait_seconds(NOW + 5) == pytest.approx(retry.delay_seconds)
    assert made.due(NOW + 5 + retry.delay_seconds) == [1]
    assert not made.stopping


def test_the_wait_grows_with_each_failure_in_a_row_and_begins_anew_after_a_steady_life() -> None:
    made, now, waits = plan(), NOW, []
    for _ in range(6):
        retry = made.ended(0, ExitCode.BUG, now)
        assert retry is not None
        waits.append(retry.delay_seconds)
        now += retry.delay_seconds
        made.started(0, now)
    for wait, longest in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert longest / 2 <= wait <= longest
    retry = made.ended(0, ExitCode.BUG, now + STEADY_SECONDS + 1)
    assert retry is not None
    assert (retry.attempt, made.places[0].restarts) == (1, 7)
    assert retry.delay_seconds <= DELAY_SECONDS


@pytest.mark.parametrize("code", sorted(NEVER_MENDED))
def test_what_no_new_start_mends_ends_all(code: ExitCode) -> None:
    made = plan(3)
    made.ended(1, -signal.SIGKILL, NOW)
    assert made.ended(0, code, NOW) is None
    assert made.stopping
    assert made.due(NOW + 100) == [], "the one that waited is not started any more"
    assert not made.over
    made.ended(2, ExitCode.OK, NOW)
    assert made.over
    assert made.exit_code == code


def test_a_start_without_kafka_or_model_server_ends_all_and_an_outage_does_not() -> None:
    starting = plan(running=False)
    starting.ended(0, ExitCode.UNAVAILABLE, NOW)
    assert starting.stopping
    later = plan(running=True)
    later.ended(0, ExitCode.UNAVAILABLE, NOW)
    assert not later.stopping


def test_a_bounded_run_ends_when_all_have_done_their_part() -> None:
    made = plan(bounded=True)
    assert made.ended(0, ExitCode.OK, NOW) is None
    assert not made.stopping, "the others go on"
    assert made.ended(1, -signal.SIGKILL, NOW) is not None
    made.started(1, NOW + 1)
    made.ended(1, ExitCode.OK, NOW + 2)
    assert made.over
    assert made.exit_code == ExitCode.OK


def test_nothing_is_started_any_more_once_told_to_stop() -> None:
    made = plan()
    made.ended(0, ExitCode.BUG, NOW)
    made.stop()
    assert made.due(NOW + 100) == []
    assert made.ended(1, ExitCode.STOPPED_HARD, NOW) is None
    assert made.over


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ((0, 0), ExitCode.OK),
        ((0, 3), ExitCode.STOPPED_HARD),
        ((3, 69), ExitCode.UNAVAILABLE),
        ((78, 5), ExitCode.CONFIG),
        ((0, -signal.SIGKILL), ExitCode.STOPPED_HARD),
        ((0, -signal.SIGTERM), ExitCode.OK),
        ((3, 99), ExitCode.BUG),
    ],
)
def test_the_exit_code_is_the_worst(codes: tuple[int, int], worst: ExitCode) -> None:
    made = plan()
    made.stop()
    for number, code in enumerate(codes):
        made.ended(number, code, NOW)
    assert made.exit_code == worst


def test_every_exit_code_has_its_place_in_the_order() -> None:
    assert set(FROM_BEST_TO_WORST) == set(ExitCode)


def test_ends_are_told_by_name() -> None:
    assert [told(code) for code in (78, -9, -64, 99)] == ["config (78)", "SIGKILL", told(-64), "exit code 99"]
