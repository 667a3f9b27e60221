"""A window becomes rows and batches: what the budget of tokens counts."""

from __future__ import annotations

import msgspec
import pytest

from protos.codecs import ReviewMessage
from tests.unit.worker.pipeline.test_pipeline import record
from worker.pipeline.batching import Limits
from worker.pipeline.preparing import Decoded, encode_window
from worker.records import Window
from worker.testing import served


@pytest.mark.parametrize(("length", "batches", "longest"), [(None, 1, 2), (50, 4, 50), (500, 8, 500)])
def test_the_budget_counts_the_padding_that_a_fixed_length_needs(
    length: int | None, batches: int, longest: int
) -> None:
    records = [record(n, "good film") for n in range(8)]
    decoded = Decoded(Window(records, {}), records, [ReviewMessage(r.result_id, "good film") for r in records], [])
    fed = msgspec.structs.replace(served(), length=length)

    encoded = encode_window(decoded, fed, Limits(rows=8, tokens=100, padding_tokens=100))

    assert len(encoded.batches) == batches
    assert {batch.longest for batch in encoded.batches} == {longest}
    assert list(encoded.rows.tokens) == [2] * 8
