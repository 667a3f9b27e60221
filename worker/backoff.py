"""How long to wait before trying again. Pure but for its random source."""

from __future__ import annotations

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """Exponential back-off with full jitter in its upper half: `delay` doubles up to `max_delay`.

    Source of the formula: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("equal jitter")."""

    delay_seconds: float
    max_delay_seconds: float

    def after(self, attempt: int, jitter: random.Random) -> float:
        """Seconds to wait after the `attempt`-th failure, counted from 1."""
        # The exponent is capped only so that the power stays a float; the delay has long reached its cap by then.
        longest = min(self.max_delay_seconds, self.delay_seconds * 2.0 ** min(attempt - 1, 60))
        return longest / 2 + jitter.uniform(0, longest / 2)
