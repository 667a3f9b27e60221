"""The encoder of models that encode for themselves: they take the text as it is."""

from __future__ import annotations

from collections.abc import Sequence

from worker.records import DType, Tensor
from worker.text.unicode import well_formed


class TextRows:
    """A `ports.Rows` of texts in UTF-8; each counts as one token, and none is cut."""

    __slots__ = ("_contents", "tokens")

    truncated = 0
    """See ports.Rows."""

    def __init__(self, contents: Sequence[bytes]) -> None:
        self._contents = contents
        self.tokens: Sequence[int] = [1] * len(contents)
        """See ports.Rows."""

    def is_truncated(self, index: int) -> bool:  # noqa: ARG002  none is
        """See ports.Rows."""
        return False

    def tensor(self, indexes: Sequence[int], longest: int) -> Tensor:  # noqa: ARG002  text is not padded
        """See ports.Rows: strings of shape (indexes,)."""
        return Tensor(DType.TEXT, (len(indexes),), strings=[*map(self._contents.__getitem__, indexes)])


class TextEncoder:
    """A `ports.Encoder` that sends texts in UTF-8. Safe from several threads at once."""

    name = "text"

    def encode_many(self, texts: Sequence[str]) -> TextRows:
        """See ports.Encoder. Lone surrogates become U+FFFD."""
        return TextRows([well_formed(text).encode() for text in texts])
