"""A window's rows become micro-batches without wasted padding. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from worker.records import Batch


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The largest micro-batch there may be."""

    rows: int
    tokens: int
    """Padding included: `longest × rows`. A row longer than that goes alone."""
    padding_tokens: int
    """What is padding of these: what another request is worth, since each one costs both sides something by itself."""

    def allow(self, rows: int, longest: int, tokens: int) -> bool:
        """Whether `rows` rows with `tokens` tokens of their own, the longest of them `longest`, are one batch."""
        padded = longest * rows
        return rows <= self.rows and padded <= self.tokens and padded - tokens <= self.padding_tokens


def plan(tokens: Sequence[int], limits: Limits) -> list[Batch]:
    """Cuts rows of `tokens` tokens each into batches within the limits.

    Rows are sorted by length first, so that a batch's rows are alike and padding stays small. Each row is in exactly one
    batch; the same input gives the same batches."""
    batches: list[Batch] = []
    rows: list[int] = []
    real = 0
    for row in sorted(range(len(tokens)), key=tokens.__getitem__):
        # Ascending: this row would be the longest of the batch.
        longest = tokens[row]
        if rows and not limits.allow(len(rows) + 1, longest, real + longest):
            batches.append(Batch(rows, tokens[rows[-1]]))
            rows, real = [], 0
        rows.append(row)
        real += longest
    if rows:
        batches.append(Batch(rows, tokens[rows[-1]]))
    return batches


def halve(batch: Batch, tokens: Sequence[int]) -> tuple[Batch, Batch]:
    """Two batches of half the rows each; `tokens` as given to `plan`. Raises ValueError for a batch of one row."""
    if len(batch.rows) < 2:
        raise ValueError("only a batch of at least two rows can be halved")
    middle = len(batch.rows) // 2
    return _batch(batch.rows[:middle], tokens), _batch(batch.rows[middle:], tokens)


def _batch(rows: Sequence[int], tokens: Sequence[int]) -> Batch:
    return Batch(rows, max(tokens[row] for row in rows))
