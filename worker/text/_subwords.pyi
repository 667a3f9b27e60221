"""What the extension `_subwords.c` gives; it is there where it could be built."""

from collections.abc import Iterable, Sequence
from typing import Literal, final

@final
class Rows:
    """The ids of a window's texts."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """How many ids each row has."""

    @property
    def truncated(self) -> int:
        """How many rows were cut to the limit."""

    def __len__(self) -> int: ...
    def is_truncated(self, index: int, /) -> bool:
        """Whether this row was cut to the limit. Raises IndexError; an index below 0 is none."""

    def padded(self, indexes: Sequence[int], length: int, kind: Literal["i", "q", "f"], padding: bytes, /) -> bytes:
        """These rows one after the other, little-endian, each brought to `length` ids by the id `padding`, packed alike.

        `kind` is a format of `struct`. Raises IndexError, and ValueError for a row that is longer than `length`."""

@final
class Encoder:
    """Texts to ids. Never changes; safe from several threads."""

    def __new__(cls, subwords: Iterable[str], limit: int) -> Encoder:
        """`limit`: ids of a row, at most.

        Raises ValueError for an empty subword, one that is not Unicode text, and for more of them than there is room for
        (some 8 million of their characters)."""

    def encode_many(self, texts: Iterable[str], /) -> Rows:
        """One row for each text. Lone surrogates count as U+FFFD. Raises TypeError for what is no str."""
