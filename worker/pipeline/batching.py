"""A window's rows become micro-batches without wasted padding. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from worker.records import Batch


def plan(tokens: Sequence[int], *, max_rows: int, max_padded_tokens: int) -> list[Batch]:
    """Cuts rows of `tokens` tokens each into batches of at most `max_rows` rows and `max_padded_tokens` tokens, padding
    included (`longest × rows`); a row longer than that goes alone.

    Rows are sorted by length first, so that a batch's rows are alike and padding stays small. Each row is in exactly one
    batch; the same input gives the same batches."""
    batches: list[Batch] = []
    rows: list[int] = []
    for row in sorted(range(len(tokens)), key=tokens.__getitem__):
        # Ascending: this row would be the longest of the batch.
        if rows and (len(rows) == max_rows or tokens[row] * (len(rows) + 1) > max_padded_tokens):
            batches.append(Batch(rows, tokens[rows[-1]]))
            rows = []
        rows.append(row)
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
