"""A window's token ids, packed as the model takes them: what the encoders that are written in Python share."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from struct import pack
from typing import Literal

from worker.records import DType, Tensor

_FORMATS: dict[DType, Literal["i", "q", "f"]] = {DType.INT32: "i", DType.INT64: "q", DType.FLOAT32: "f"}
"""Models of Keras 2 may take ids as floats, which hold each whole number up to 2**24."""


def packer(dtype: DType) -> Callable[[Sequence[int]], bytes]:
    """Writes ids as this dtype, little-endian. Raises ValueError for a dtype that holds no ids."""
    if dtype not in _FORMATS:
        raise ValueError(f"ids are sent as {', '.join(_FORMATS)}, not as {dtype}")
    number = _FORMATS[dtype]
    return lambda ids: pack(f"<{len(ids)}{number}", *ids)


class IdLayout:
    """How one model takes token ids. Immutable.

    `length`: tokens of every row, for a model whose input is not open in length. Raises ValueError for a dtype that holds
    no ids."""

    def __init__(self, dtype: DType, *, max_tokens: int, padding_id: int = 0, length: int | None = None) -> None:
        self.dtype = dtype
        self.pack = packer(dtype)
        self.format = _FORMATS[dtype]
        """The letter of an id's format, as the module struct has it."""
        self.padding = self.pack([padding_id])
        self.length = length
        self.limit = max_tokens if length is None else min(max_tokens, length)
        """Tokens of a row, at most."""


class IdRows:
    """A `ports.Rows`: row i holds the packed ids `contents[i]`."""

    __slots__ = ("_contents", "_layout", "_truncated", "tokens")

    def __init__(self, contents: Sequence[bytes], truncated: Set[int], layout: IdLayout) -> None:
        """`truncated`: the indexes of the rows that were cut to the limit."""
        width = len(layout.padding)
        self.tokens: Sequence[int] = [len(content) // width for content in contents]
        """See ports.Rows."""
        self._contents = contents
        self._truncated = truncated
        self._layout = layout

    @property
    def truncated(self) -> int:
        """See ports.Rows."""
        return len(self._truncated)

    def is_truncated(self, index: int) -> bool:
        """See ports.Rows."""
        return index in self._truncated

    def tensor(self, indexes: Sequence[int], longest: int) -> Tensor:
        """See ports.Rows: shape (indexes, the layout's length or else `longest`)."""
        layout = self._layout
        length = longest if layout.length is None else layout.length
        padding = layout.padding * length
        rows = map(self._contents.__getitem__, indexes)
        return Tensor(
            layout.dtype, (len(indexes), length), b"".join([content + padding[len(content) :] for content in rows])
        )
