"""Whether the worker still gets anywhere: the bookkeeping behind /livez and the alert InferryStuck."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from threading import Lock

from worker.records import Partition


class Progress:
    """Remembers since when records wait without any being delivered. Thread-safe.

    Only a worker that says it is running can stall: one that starts, drains, or holds because the model server is away
    has a reason, and restarting it would not help.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._running = False
        self._waiting_since: dict[Partition, float] = {}
        self._busy_since: float | None = None
        """Since when windows are in flight without one being delivered; None while there are none."""
        self._lock = Lock()

    def running(self, *, now: bool) -> None:
        """Whether progress may be expected. Counting starts again when it may again."""
        with self._lock:
            if now and not self._running:
                self._restart(self._waiting_since)
            self._running = now

    def lag(self, by_partition: Mapping[Partition, int]) -> None:
        """What waits in the whole assignment, in records."""
        now = self._monotonic()
        with self._lock:
            before = self._waiting_since
            self._waiting_since = {
                partition: before.get(partition, now) for partition, records in by_partition.items() if records > 0
            }

    def in_flight(self, windows: int) -> None:
        """How many windows are between poll and commit."""
        with self._lock:
            if windows == 0:
                self._busy_since = None
            elif self._busy_since is None:
                self._busy_since = self._monotonic()

    def delivered(self, partitions: Collection[Partition] | None) -> None:
        """A window of these partitions became durable; None: of unknown ones, which counts for all."""
        with self._lock:
            self._restart(self._waiting_since if partitions is None else partitions)

    def waiting_seconds(self) -> Mapping[Partition, float]:
        """How long each partition's records have waited without any being delivered; those where none waits are missing."""
        now = self._monotonic()
        with self._lock:
            return {partition: now - since for partition, since in self._waiting_since.items()}

    def stalled(self, limit_seconds: float) -> str | None:
        """A sentence when nothing was delivered for `limit_seconds` although records wait; else None."""
        now = self._monotonic()
        with self._lock:
            if not self._running:
                return None
            late = {p: now - since for p, since in self._waiting_since.items() if now - since > limit_seconds}
            busy_seconds = 0.0 if self._busy_since is None else now - self._busy_since
        if late:
            worst = max(late, key=lambda partition: late[partition])
            others = f" and {len(late) - 1} more" if len(late) > 1 else ""
            return (
                f"Partition {worst.topic}/{worst.partition}{others} has records waiting, but nothing of it was "
                f"delivered for {late[worst]:.0f} s (limit {limit_seconds:.0f} s)."
            )
        if busy_seconds > limit_seconds:
            return (
                f"Windows are in flight, but none was delivered for {busy_seconds:.0f} s (limit {limit_seconds:.0f} s)."
            )
        return None

    def _restart(self, partitions: Collection[Partition]) -> None:
        """Counting starts now for these partitions and for what is in flight. The caller holds the lock."""
        now = self._monotonic()
        for partition in partitions:
            if partition in self._waiting_since:
                self._waiting_since[partition] = now
        if self._busy_since is not None:
            self._busy_since = now
