"""How many requests to keep in flight at a server whose capacity nobody knows. Pure, and used under the caller's lock."""

from __future__ import annotations


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, as TCP finds the capacity of a path.

    It starts at its maximum. A full round of successes (as many as the limit) raises it by one; an overload halves it.
    It never leaves 1 … maximum.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._limit = float(maximum)
        self._lowered_at = float("-inf")

    @property
    def value(self) -> int:
        """How many requests may be in flight now."""
        return int(self._limit)

    def succeeded(self) -> None:
        """A request was answered."""
        self._limit = min(float(self._maximum), self._limit + 1 / self._limit)

    def overloaded(self, started: float, now: float) -> None:
        """A request that started at `started` met an overloaded server; both times are seconds of one clock.

        A request that started before the last decrease tells of the overload that is already answered: without this, one
        bad moment with sixteen requests in flight would halve the limit sixteen times.
        """
        if started >= self._lowered_at:
            self._limit = max(1.0, self._limit / 2)
            self._lowered_at = now
