"""The dead-letter brake: stops a worker that would empty its topic into the dead letters."""

from __future__ import annotations

from collections import deque

from worker.errors import DeadLetterBrake

MEMORY = 1000
"""Records the share is taken over."""
LEAST = 200
"""Records seen before the share counts: a handful of bad records at the start is no trend."""


class Brake:
    """Counts answers in the order of delivery. `share` 1 and `run` 0 switch it off."""

    def __init__(self, *, share: float, run: int) -> None:
        self._share = share
        self._run = run
        self._in_a_row = self._in_a_row_before = 0
        self._windows: deque[tuple[int, int]] = deque()
        self._answers = 0
        self._dead_letters = 0

    def check(self, results: int, dead_letters: int) -> None:
        """Takes note of one window about to be delivered.

        Raises DeadLetterBrake when it holds one dead letter too many; the window must then not be delivered."""
        self._in_a_row_before = self._in_a_row
        self._in_a_row = 0 if results else self._in_a_row + dead_letters
        self._remember(results, dead_letters)
        if self._run and self._in_a_row > self._run:
            raise DeadLetterBrake(
                f"the last {self._in_a_row} records were all dead letters (the limit is {self._run} in a row). Look at "
                "them with `inferry-producer dead-letters list`; if they are right, raise dead-letter-run or make it 0"
            )
        share = self._dead_letters / self._answers if self._answers else 0.0
        if self._answers >= LEAST and share > self._share:
            raise DeadLetterBrake(
                f"{self._dead_letters} of the last {self._answers} records were dead letters (the limit is a share of "
                f"{self._share:g}). Look at them with `inferry-producer dead-letters list`; if they are right, raise "
                "dead-letter-share or set it to 1"
            )

    def amend(self, dead_letters: int) -> None:
        """So many results of the window last checked have become dead letters at its delivery. Raises like `check`."""
        answers, known = self._windows.pop()
        self._answers -= answers
        self._dead_letters -= known
        self._in_a_row = self._in_a_row_before
        self.check(answers - known - dead_letters, known + dead_letters)

    def _remember(self, results: int, dead_letters: int) -> None:
        self._windows.append((results + dead_letters, dead_letters))
        self._answers += results + dead_letters
        self._dead_letters += dead_letters
        while self._answers - self._windows[0][0] >= MEMORY:
            answers, bad = self._windows.popleft()
            self._answers -= answers
            self._dead_letters -= bad
