"""The judge of liveness, and what a worker tells of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.liveness import Liveness, Standstill, wait_until_answered
from tests.faults.reviews import Reviews
from tests.faults.world import World
from tests.support.harness import produce, review_json
from worker.testing import ManualClock


def test_a_partition_that_stands_still_is_seen_beside_one_that_moves() -> None:
    clock = ManualClock()
    liveness = Liveness(clock.monotonic)
    assert liveness.look({0: 5, 1: 5}, {0: 9, 1: 9}) == {0: 0, 1: 0}
    clock.advance(10)
    assert liveness.look({0: 5, 1: 6}, {0: 9, 1: 9}) == {0: 10, 1: 0}
    clock.advance(10)
    assert liveness.look({0: 5, 1: 9}, {0: 50, 1: 9}) == {0: 20}, "what comes in is no progress"
    clock.advance(1)
    assert liveness.look({0: 6, 1: 9}, {0: 50, 1: 10}) == {0: 0, 1: 0}, "lag that has just come has not waited yet"
    assert liveness.longest_seconds == 20


def test_a_partition_without_a_committed_offset_begins_at_zero() -> None:
    clock = ManualClock()
    liveness = Liveness(clock.monotonic)
    liveness.look({}, {0: 3, 1: 0})
    clock.advance(5)
    assert liveness.look({}, {0: 3, 1: 0}) == {0: 5}
    assert liveness.look({0: 0}, {0: 3, 1: 0}) == {0: 5}


@pytest.mark.timeout(240)
def test_a_standstill_is_reported_with_what_the_worker_thinks(world: World, reviews: Reviews) -> None:
    world.start_workers()
    try:
        for slot in world.slots:
            slot.arm("predict", 1, "20")  # between the scores and the transaction
        values = [review_json(text) for text in reviews.texts[:60]]
        produce(world.broker.bootstrap, world.topics.reviews, values)
        with pytest.raises(Standstill, match="standing still with lag: partition"):
            wait_until_answered(world, 60, move_seconds=5)
        told = [json.loads(path.read_text()) for path in sorted(Path(world.folder).glob("worker-*.opinion"))]
        assert len(told) == len(world.slots)
        for opinion in told:
            assert "in turn" in opinion["client"]
            assert "_waiting" in opinion["WindowsInFlight"]
            assert any("time.sleep" in line for stack in opinion["threads"].values() for line in stack)
        wait_until_answered(world, 90)
    finally:
        world.stop_workers()
