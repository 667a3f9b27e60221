"""The compiled subword encoder: the ids of `vocabulary.Vocabulary.encode_ids`, at a tenth of the automaton's cost.

Its C source is `_subwords.c`, which says how it works and what bounds its time and memory. It is built when the project is
installed and there is a C compiler; `available` tells whether it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.records import DType, Tensor
from worker.text.rows import IdLayout
from worker.text.vocabulary import Vocabulary

try:
    from worker.text import _subwords
except ImportError:  # there was no compiler, or the machine is not little-endian
    _AVAILABLE = False
else:
    _AVAILABLE = True


def available() -> bool:
    """Whether the extension was built for this Python."""
    return _AVAILABLE


class CompiledRows:
    """A `ports.Rows`. Immutable; safe from several threads."""

    __slots__ = ("_layout", "_rows", "tokens", "truncated")

    def __init__(self, rows: _subwords.Rows, layout: IdLayout) -> None:
        self._rows = rows
        self._layout = layout
        self.tokens: Sequence[int] = rows.tokens
        """See ports.Rows."""
        self.truncated = rows.truncated
        """See ports.Rows."""

    def is_truncated(self, index: int) -> bool:
        """See ports.Rows."""
        return self._rows.is_truncated(index)

    def tensor(self, indexes: Sequence[int], longest: int) -> Tensor:
        """See ports.Rows: shape (indexes, the layout's length or else `longest`).

        Raises IndexError for a row that is not there, ValueError for one that is longer than `longest`."""
        layout = self._layout
        length = longest if layout.length is None else layout.length
        content = self._rows.padded(indexes, length, layout.format, layout.padding)
        return Tensor(layout.dtype, (len(indexes), length), content)


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
        self._layout = IdLayout(dtype, max_tokens=max_tokens, padding_id=padding_id, length=length)
        self._encoder = _subwords.Encoder(vocabulary.subwords, self._layout.limit)

    def encode_many(self, texts: Sequence[str]) -> CompiledRows:
        """See ports.Encoder. Lone surrogates count as U+FFFD. Releases the interpreter's lock for all but small windows."""
        return CompiledRows(self._encoder.encode_many(texts), self._layout)
