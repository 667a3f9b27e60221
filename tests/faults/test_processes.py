"""A worker of two processes: the faults of single ones, and those of a worker that mean something else for a parent."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import psutil
import pytest

from tests.faults.faults import CRASHES, PROCESSES, WORKER, Fault
from tests.faults.one_fault import strike_once
from tests.faults.reviews import Reviews
from tests.faults.world import World
from tests.support.harness import wait_for

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.lasts(10),
]

FAULTS = [
    *PROCESSES,
    *(fault for fault in (*CRASHES, *WORKER) if fault.name in ("SIGKILL after flush", "SIGTERM", "SIGTERM twice")),
]


@pytest.fixture(scope="module")
def several(world: World) -> Iterator[World]:
    """The world with one worker, of two processes, on topics of its own."""
    topics = world.fresh_topics()
    view = copy(world)
    view.slots, view.spares, view.topics = world.spares[:1], [], topics
    [slot] = view.slots
    slot.start(
        {
            "processes": 2,
            "group": topics.group,
            "input_topic": topics.reviews,
            "output_topic": topics.labels,
            "dead_letter_topic": topics.dead,
        }
    )
    slot.process.wait_ready()
    yield view
    slot.stop()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_is_lost_doubled_or_out_of_order(several: World, reviews: Reviews, fault: Fault) -> None:
    [slot] = several.slots
    wait_for(lambda: len(slot.children()) == 2, 60, "both processes")
    before = slot.children()
    strike_once(several, reviews, fault)
    assert slot.unexpected_ends == []
    now = slot.children()
    wait_for(lambda: not any(map(runs, set(before) - set(now))), 30, "the end of those that were replaced")


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
