"""The dead-letter limit: stops a worker that would empty its topic into the dead letters."""

from __future__ import annotations

from collections import deque

from worker.errors import DeadLetterLimitReached

MEMORY = 1000
"""Records the share is taken over."""
LEAST = 200
"""Records seen before the share counts: a handful of bad records at the start is no trend."""


class DeadLetterLimit:
    """Counts answers in the order of delivery. `share` 1 and `run` 0 switch it off.

    A window is checked before its delivery and counted after it, so that one whose delivery fails, and which is read
    again, counts once."""

    def __init__(self, *, share: float, run: int) -> None:
        self._share = share
        self._run = run
        self._in_a_row = 0
        self._windows: deque[tuple[int, int]] = deque()
        self._answers = 0
        self._dead_letters = 0

    def check(self, results: int, dead_letters: int) -> None:
        """Looks at one window about to be delivered, and counts nothing.

        Raises DeadLetterLimitReached when it holds one dead letter too many; the window must then not be delivered."""
        in_a_row = self._in_a_row_with(results, dead_letters)
        if self._run and in_a_row > self._run:
            raise DeadLetterLimitReached(
                f"the last {in_a_row} records were all dead letters (the limit is {self._run} in a row). Look at "
                "them with `inferry-producer dead-letters list`; if they are right, raise dead-letter-run or make it 0"
            )
        answers, bad = self._answers + results + dead_letters, self._dead_letters + dead_letters
        for past_answers, past_bad in self._windows:
            if answers - past_answers < MEMORY:
                break
            answers -= past_answers
            bad -= past_bad
        if answers >= LEAST and bad / answers > self._share:
            raise DeadLetterLimitReached(
                f"{bad} of the last {answers} records were dead letters (the limit is a share of "
                f"{self._share:g}). Look at them with `inferry-producer dead-letters list`; if they are right, raise "
                "dead-letter-share or set it to 1"
            )

    def count(self, results: int, dead_letters: int) -> None:
        """Takes note of one window that was delivered, as it was delivered: results that the topic did not take are dead
        letters.

        Raises like `check` when those were too many."""
        try:
            self.check(results, dead_letters)
        finally:
            self._in_a_row = self._in_a_row_with(results, dead_letters)
            self._remember(results, dead_letters)

    def _in_a_row_with(self, results: int, dead_letters: int) -> int:
        return 0 if results else self._in_a_row + dead_letters

    def _remember(self, results: int, dead_letters: int) -> None:
        self._windows.append((results + dead_letters, dead_letters))
        self._answers += results + dead_letters
        self._dead_letters += dead_letters
        while self._answers - self._windows[0][0] >= MEMORY:
            answers, bad = self._windows.popleft()
            self._answers -= answers
            self._dead_letters -= bad
