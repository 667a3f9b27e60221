from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.records import DType
from worker.text.raw_text import TextEncoder


def test_text_goes_as_it_is() -> None:
    rows = TextEncoder().encode_many(["é 😀", "a\ud800", "left out"])

    tensor = rows.tensor([1, 0], longest=1)

    assert (tensor.dtype, tensor.shape) == (DType.TEXT, (2,))
    assert list(tensor.strings) == ["a\ufffd".encode(), "é 😀".encode()]
    assert (list(rows.tokens), rows.truncated, rows.is_truncated(0)) == ([1, 1, 1], 0, False)


@given(st.text(st.characters() | st.characters(categories=["Cs"])))
def test_no_text_is_too_odd(text: str) -> None:
    (content,) = TextEncoder().encode_many([text]).tensor([0], longest=1).strings
    assert len(content.decode()) == len(text)
