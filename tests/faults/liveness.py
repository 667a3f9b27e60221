"""Whether work goes on once all is well again, partition by partition: liveness judged as strictly as safety."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tests.faults.world import World
from tests.support.harness import committed_offsets, end_offsets

MOVE_SECONDS = 45.0
"""After healing each partition with lag moves again within this time. A member that died stays in the group for its session
timeout (6 s), its transaction open for that of transactions (4 s), and a rebalance and a start of the worker come on top."""
LOOK_SECONDS = 0.5


class Standstill(Exception):
    """A partition with lag did not move for too long. The message holds what the workers think of it."""


class Liveness:
    """Remembers since when each partition has had lag without moving."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._committed: dict[int, int] = {}
        self._since: dict[int, float] = {}
        self.longest_seconds = 0.0
        """The longest that any partition has stood still with lag."""

    def look(self, committed: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, float]:
        """For how many seconds each partition that has lag has stood still by now; those without lag are missing.
        `committed` and `ends` are offsets by partition; a partition without a committed offset begins at 0."""
        now = self._monotonic()
        since: dict[int, float] = {}
        for partition, end in ends.items():
            at = committed.get(partition, 0)
            if at < end:
                moved = at != self._committed.get(partition, at)
                since[partition] = now if moved else self._since.get(partition, now)
            self._committed[partition] = at
        self._since = since
        still = {partition: now - began for partition, began in since.items()}
        self.longest_seconds = max([self.longest_seconds, *still.values()])
        return still


def wait_until_answered(
    world: World,
    limit_seconds: float,
    *,
    move_seconds: float = MOVE_SECONDS,
    sent: Callable[[], bool] = lambda: True,
) -> float:
    """Blocks until everything in the world's topic is answered and returns the longest standstill of a partition, in
    seconds. `sent`: whether everything has been sent; the limit counts from then on.

    Raises Standstill when a partition with lag does not move for `move_seconds`, TimeoutError past the limit."""
    topics = world.topics
    liveness = Liveness(time.monotonic)
    deadline = float("inf")
    while True:
        all_sent = sent()
        committed = committed_offsets(topics.bootstrap, topics.group, topics.reviews)
        still = liveness.look(committed, end_offsets(topics.bootstrap, topics.reviews))
        if all_sent and not still:
            return liveness.longest_seconds
        stuck = {partition: seconds for partition, seconds in still.items() if seconds > move_seconds}
        if stuck:
            told = ", ".join(f"{partition} (for {seconds:.0f} s)" for partition, seconds in sorted(stuck.items()))
            raise Standstill(f"standing still with lag: partition {told}\n{world.opinions()}")
        now = time.monotonic()
        deadline = min(deadline, now + limit_seconds) if all_sent else deadline
        if now > deadline:
            raise TimeoutError(f"lag 0 did not come within {limit_seconds:g} s\n{world.opinions()}")
        time.sleep(LOOK_SECONDS)
