"""Events for whoever has no metrics and no log: a second model version that is compared, a question from a terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from worker.ports import ServedModel
from worker.records import Partition, Retry


class SilentEvents:
    """A `ports.Events` that nobody hears: every method does nothing."""

    def polled(self, records: int, size_bytes: int) -> None:
        """See ports.Events."""

    def decoded(self, seconds: float, reviews: int, dead_letters: int) -> None:
        """See ports.Events."""

    def encoded(self, seconds: float, reviews: int, tokens: int, truncated: int) -> None:
        """See ports.Events."""

    def batched(self, rows: int, tokens: int, padded_tokens: int) -> None:
        """See ports.Events."""

    def predicted(self, seconds: float, status: str) -> None:
        """See ports.Events."""

    def retrying(self, retry: Retry) -> None:
        """See ports.Events."""

    def delivered(
        self,
        seconds: float,
        results_by_label: Mapping[str, int],
        dead_letters_by_reason: Mapping[str, int],
        latencies_seconds: Sequence[float],
        partitions: Collection[Partition],
    ) -> None:
        """See ports.Events."""

    def dropped(self, windows: int, why: str) -> None:
        """See ports.Events."""

    def in_flight(self, windows: int) -> None:
        """See ports.Events."""

    def requests(self, in_flight: int, limit: int) -> None:
        """See ports.Events."""

    def lag(self, by_partition: Mapping[Partition, int]) -> None:
        """See ports.Events."""

    def serving(self, served: ServedModel | None) -> None:
        """See ports.Events."""

    def shadowed(self, rows: int, agreements: int, score_differences: Sequence[float]) -> None:
        """See ports.Events."""

    def shadow_skipped(self) -> None:
        """See ports.Events."""

    def state(self, state: str, detail: str = "") -> None:
        """See ports.Events."""
