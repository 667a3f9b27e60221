"""Every fault of the random run by itself, while reviews keep coming, and the checker after each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.faults import CRASHES, KAFKA, Fault, all_faults
from tests.faults.one_fault import strike_once
from tests.faults.reviews import Reviews
from tests.faults.world import World

# The test's own clients lose their connections, too, and do not close each socket by themselves.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.lasts(10),
]


CLIENTS = {
    "librdkafka": ("librdkafka", "librdkafka"),
    "both": ("kafka-python", "librdkafka"),
}
"""The Kafka clients of the two workers. Every fault strikes a group that changes from one client to the other. Those of
transactions and of the way to Kafka strike librdkafka by itself as well, and the random run is kafka-python's."""
CASES = [
    *(("both", fault) for fault in all_faults()),
    *(("librdkafka", fault) for fault in (*CRASHES, *KAFKA)),
]


@pytest.fixture(scope="module")
def working(world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """The world with its two workers running."""
    world.start_workers(*({"kafka_client": client} for client in CLIENTS[request.param]))
    yield world
    world.stop_workers()


@pytest.mark.parametrize(
    ("working", "fault"),
    CASES,
    ids=[f"{client}-{fault.name.replace(' ', '-')}" for client, fault in CASES],
    indirect=["working"],
)
def test_nothing_is_lost_doubled_or_out_of_order(working: World, reviews: Reviews, fault: Fault) -> None:
    strike_once(working, reviews, fault)
    assert [slot.unexpected_ends for slot in (*working.slots, *working.spares)] == [[]] * 3
