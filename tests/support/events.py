"""Every event of `ports.Events`, for tests that want each metric to have a sample."""

from __future__ import annotations

from worker.ports import Events
from worker.records import Partition, Reason, Retry
from worker.testing import served


def everything_happens(events: Events) -> None:
    """Every event once: the scrape then has a sample of each metric."""
    events.state("running")
    events.serving(served(7))
    events.lag({Partition("reviews", 0): 3, Partition("reviews", 1): 0})
    events.polled(4, 4_000)
    events.decoded(0.001, 3, 1)
    events.encoded(0.002, 3, 900, 1)
    events.batched(3, 900, 1000)
    events.requests(1, 16)
    events.predicted(0.01, "OK")
    events.predicted(0.01, "UNAVAILABLE")
    events.retrying(Retry("predict", "UNAVAILABLE", 1, 0.1, "the server is away"))
    events.in_flight(1)
    events.delivered(0.02, {"positive": 2, "negative": 1}, {Reason.MALFORMED.value: 1}, [0.03, 0.04, 0.05, 0.06])
    events.dropped(1, "a rebalance")
    events.shadowed(3, 2, [0.0, -0.3, 0.02])
