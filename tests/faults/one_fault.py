"""One fault by itself: it strikes while reviews keep coming, all is healed, and the checker judges."""

from __future__ import annotations

from random import Random

from tests.faults.faults import Fault
from tests.faults.liveness import wait_until_answered
from tests.faults.reviews import Reviews
from tests.faults.runner import Feed, Plan
from tests.faults.world import World

RATE = 150.0
SETTLE_SECONDS = 90.0


def strike_once(world: World, reviews: Reviews, fault: Fault) -> None:
    """Returns once everything is answered. AssertionError where anything is lost, doubled, out of order or unsent, or the
    fault did not strike."""
    feed = Feed(world, reviews, Plan(seed=0, rate=RATE))
    feed.start()
    try:
        struck = fault.strike(world, Random(fault.name))
    finally:
        unsent = feed.finish()
        world.heal()
    wait_until_answered(world, SETTLE_SECONDS)
    report = world.check(reviews.expect)
    assert not report.violations, f"{report}\n{report.shown}\nhistory: {world.history.path}"
    assert struck, "the fault did not strike"
    assert unsent == 0, f"{unsent} reviews were not sent"
