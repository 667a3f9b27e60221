"""Micro-batches: every row once, every limit kept, little padding."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.batching import Limits, halve, plan
from worker.records import Batch

TOKENS = st.lists(st.integers(0, 400) | st.integers(0, 5000), max_size=80)
ROWS = st.integers(1, 40)
BUDGET = st.integers(1, 6000)
PADDING = st.integers(0, 3000)


def limits(rows: int, tokens: int, padding_tokens: int = 10**9) -> Limits:
    return Limits(rows=rows, tokens=tokens, padding_tokens=padding_tokens)


def test_nothing_to_send_gives_no_batch() -> None:
    assert plan([], limits(8, 100)) == []


def test_rows_alike_share_a_batch_and_one_over_the_budget_goes_alone() -> None:
    assert plan([300, 10, 12, 290, 5000, 11], limits(3, 600)) == [
        Batch([1, 5, 2], 12),
        Batch([3, 0], 300),
        Batch([4], 5000),
    ]


@given(TOKENS, ROWS, BUDGET)
def test_each_row_is_in_exactly_one_batch(tokens: list[int], max_rows: int, budget: int) -> None:
    batches = plan(tokens, limits(max_rows, budget))

    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(tokens)))


@given(TOKENS, ROWS, BUDGET, PADDING)
def test_a_batch_keeps_every_limit_unless_it_is_one_long_row(
    tokens: list[int], max_rows: int, budget: int, padding: int
) -> None:
    for batch in plan(tokens, limits(max_rows, budget, padding)):
        padded = batch.longest * len(batch.rows)
        assert batch.longest == max(tokens[row] for row in batch.rows)
        assert len(batch.rows) <= max_rows
        assert len(batch.rows) == 1 or padded <= budget
        assert padded - sum(tokens[row] for row in batch.rows) <= padding


@given(TOKENS, ROWS, BUDGET, PADDING)
def test_no_batch_could_have_taken_the_next_row_too(
    tokens: list[int], max_rows: int, budget: int, padding: int
) -> None:
    for batch, following in pairwise(plan(tokens, limits(max_rows, budget, padding))):
        rows = [*batch.rows, following.rows[0]]
        padded = tokens[rows[-1]] * len(rows)
        assert len(rows) > max_rows or padded > budget or padded - sum(tokens[row] for row in rows) > padding


def test_a_long_review_is_cut_off_from_short_ones_where_padding_costs_more_than_another_request() -> None:
    tokens = [100] * 50 + [900]

    assert [len(batch.rows) for batch in plan(tokens, limits(64, 10**6, padding_tokens=40_000))] == [51]
    assert [len(batch.rows) for batch in plan(tokens, limits(64, 10**6, padding_tokens=39_999))] == [50, 1]


@given(TOKENS.filter(bool), ROWS, BUDGET)
def test_padding_is_at_most_one_full_batch_of_the_spread_of_lengths(
    tokens: list[int], max_rows: int, budget: int
) -> None:
    batches = plan(tokens, limits(max_rows, budget))
    padding = sum(batch.longest * len(batch.rows) for batch in batches) - sum(tokens)

    assert padding <= max_rows * (max(tokens) - min(tokens))


@given(TOKENS, ROWS, BUDGET)
def test_the_same_window_gives_the_same_batches(tokens: list[int], max_rows: int, budget: int) -> None:
    first, second = (plan(list(tokens), limits(max_rows, budget)) for _ in range(2))

    assert first == second


@given(st.lists(st.integers(0, 500), min_size=2, max_size=60))
def test_halves_share_the_rows_evenly_and_know_their_longest(tokens: list[int]) -> None:
    [batch] = plan(tokens, limits(len(tokens), 10**9))

    first, second = halve(batch, tokens)

    assert [*first.rows, *second.rows] == list(batch.rows)
    assert 0 <= len(second.rows) - len(first.rows) <= 1
    for half in (first, second):
        assert half.longest == max(tokens[row] for row in half.rows)


def test_halving_ends_at_each_row_alone() -> None:
    tokens = [5, 3, 9, 9, 1, 7, 2]
    waiting, alone = plan(tokens, limits(7, 100)), []
    while waiting:
        batch = waiting.pop()
        if len(batch.rows) == 1:
            alone.append(batch.rows[0])
        else:
            waiting += halve(batch, tokens)

    assert sorted(alone) == list(range(7))


def test_a_single_row_cannot_be_halved() -> None:
    with pytest.raises(ValueError, match="at least two"):
        halve(Batch([3], 5), [1, 1, 1, 5])
