"""The compiled subword encoder: the ids of `subwords.Vocabulary.encode_ids`, at a tenth of the automaton's cost.

Its C source is `_subwords.c`, which says how it works and what bounds its time and memory. It is built when the project is
installed and there is a C compiler; `available` tells whether it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from worker.records import DType, Tensor
from worker.text.subwords import Vocabulary, packer

try:
    from worker.text import _subwords
except ImportError:  # there was no compiler, or the machine is not little-endian
    _AVAILABLE = False
else:
    _AVAILABLE = True

_KINDS: dict[DType, Literal["i", "q", "f"]] = {DType.INT32: "i", DType.INT64: "q", DType.FLOAT: "f"}


def available() -> bool:
    """Whether the extension was built for this Python."""
    return _AVAILABLE


class CompiledRows:
    """A `ports.Rows`. Immutable; safe from several threads."""

    __slots__ = ("_dtype", "_length", "_padding", "_rows", "tokens", "truncated")

    def __init__(self, rows: _subwords.Rows, dtype: DType, padding: bytes, length: int | None) -> None:
        self._rows = rows
        self._dtype = dtype
        self._padding = padding
        self._length = length
        self.tokens: Sequence[int] = rows.tokens
        """How many token ids each row has."""
        self.truncated = rows.truncated
        """How many rows were cut to the limit."""

    def is_truncated(self, index: int) -> bool:
        """Whether tokens beyond the model's limit were cut off this row."""
        return self._rows.is_truncated(index)

    def tensor(self, indexes: Sequence[int], longest: int) -> Tensor:
        """See ports.Rows: shape (indexes, `length` or else `longest`).

        Raises IndexError for a row that is not there, ValueError for one that is longer than `longest`."""
        length = longest if self._length is None else self._length
        content = self._rows.padded(indexes, length, _KINDS[self._dtype], self._padding)
        return Tensor(self._dtype, (len(indexes), length), content)


class CompiledEncoder:
    """A `ports.Encoder` for models that were trained with a tfds subword vocabulary. Safe from several threads at once.

    `length`: tokens of every row, for a model whose input is not open in length.

    Raises ValueError for a dtype that holds no ids and for a vocabulary of millions of subwords, ImportError where the
    extension is not `available`.
    """

    name = "compiled"

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        max_tokens: int,
        dtype: DType = DType.INT32,
        padding_id: int = 0,
        length: int | None = None,
    ) -> None:
        if not _AVAILABLE:
            raise ImportError("the compiled encoder was not built: install the project where there is a C compiler")
        self._dtype = dtype
        self._padding = packer(dtype)([padding_id])
        self._length = length
        limit = max_tokens if length is None else min(max_tokens, length)
        self._encoder = _subwords.Encoder(vocabulary.subwords, limit)

    def encode_many(self, texts: Sequence[str]) -> CompiledRows:
        """See ports.Encoder. Lone surrogates count as U+FFFD. Releases the interpreter's lock for all but small windows."""
        return CompiledRows(self._encoder.encode_many(texts), self._dtype, self._padding, self._length)
