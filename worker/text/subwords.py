"""The subword encoder in Python: the ids of `vocabulary.Vocabulary.encode_ids`, found by an automaton in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

from worker.records import DType
from worker.text.rows import IdLayout, IdRows
from worker.text.unicode import well_formed
from worker.text.vocabulary import Vocabulary

_SPACE = "\x01"
"""Stands for a space that no word takes in while a text is matched."""
_RARE = ("_", _SPACE)
"""Texts that hold one of these are cut the plain way."""
_mark_spaces = re.compile(r" (?:(?=\W)|(?<!\w ))").sub


class _Matcher:
    """Cuts a text into packed ids in one pass of an automaton that finds the leftmost longest of all subwords, and from
    its end on the next: what cutting each token greedily gives, as long as no subword reaches beyond its token.

    Subwords of word characters cannot reach over others and the other way round; reserved ones mix both and are left out.
    Only the space is in both kinds of tokens: at the end of a word's, anywhere in the others'. So there it is replaced
    by `_SPACE`."""

    def __init__(self, vocabulary: Vocabulary, pack_ids: Callable[[Sequence[int]], bytes]) -> None:
        self._pack = pack_ids
        self._byte_ids = vocabulary.byte_ids
        found = {
            _pattern(subword): pack_ids([token_id])
            for subword, token_id in vocabulary.items()
            if subword not in vocabulary.reserved
        }
        characters = {chr(code) for code in range(128)} | {character for pattern in found for character in pattern}
        self._packed = {character: self._in_bytes(character) for character in characters} | found
        """By pattern; a character that is no subword by itself gives the ids of its bytes."""
        self._find = AhoCorasick(
            self._packed,
            matchkind=MatchKind.LeftmostLongest,
            implementation=Implementation.ContiguousNFA,  # twice as quick as the DFA, which misses the CPU's cache
            store_patterns=True,  # its matches are the keys of the dict, not strings that are made again
        ).find_matches_as_strings
        self._split = re.compile(f"([^{re.escape(''.join(sorted(characters)))}]+)").split
        """Apart from each other: what patterns cover, and characters that are in no subword."""

    def ids(self, text: str) -> bytes:
        """The packed ids of a well-formed text without any of `_RARE` and without reserved subwords."""
        marked = _mark_spaces(_SPACE, text)
        if marked.isascii():
            return self._covered(marked)
        parts = self._split(marked)
        return b"".join([self._in_bytes(part) if n % 2 else self._covered(part) for n, part in enumerate(parts)])

    def _covered(self, text: str) -> bytes:
        return b"".join([*map(self._packed.__getitem__, self._find(text))])

    def _in_bytes(self, text: str) -> bytes:
        return self._pack(self._byte_ids(text.replace(_SPACE, " ")))


def _pattern(subword: str) -> str:
    """What to look for in a marked text. A subword with an underscore elsewhere than at its end is in no such text."""
    return f"{subword[:-1].replace(' ', _SPACE)} " if subword.endswith("_") else subword.replace(" ", _SPACE)


class SubwordEncoder:
    """A `ports.Encoder` for models that were trained with a tfds subword vocabulary. Safe from several threads at once.

    `length`: tokens of every row, for a model whose input is not open in length. Raises ValueError for a dtype that holds
    no ids.

    Nothing is kept from text to text, so memory and time are the same whatever words arrive.
    """

    name = "automaton"

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        max_tokens: int,
        dtype: DType = DType.INT32,
        padding_id: int = 0,
        length: int | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._layout = IdLayout(dtype, max_tokens=max_tokens, padding_id=padding_id, length=length)
        self._pack = self._layout.pack
        self._limit_bytes = self._layout.limit * len(self._layout.padding)
        # What stands beyond cannot change the ids up to the limit: an id stands for `longest` characters at most, and
        # looks ahead for no more than that. So the work for a text is bounded, whatever arrives.
        self._limit_characters = (self._layout.limit + 4) * vocabulary.longest
        self._matcher = _Matcher(vocabulary, self._pack)

    def encode_many(self, texts: Sequence[str]) -> IdRows:
        """See ports.Encoder. Lone surrogates count as U+FFFD."""
        limit_bytes = self._limit_bytes
        contents = [*map(self._ids, texts)]
        truncated = {index for index, content in enumerate(contents) if len(content) > limit_bytes}
        for index in truncated:
            contents[index] = contents[index][:limit_bytes]
        return IdRows(contents, truncated, self._layout)

    def _ids(self, text: str) -> bytes:
        """The packed ids, at least up to the limit."""
        if len(text) > self._limit_characters:
            text = text[: self._limit_characters]
        text = well_formed(text)
        if any(map(text.__contains__, _RARE)) or self._vocabulary.has_reserved(text):
            return self._pack(self._vocabulary.encode_ids(text))
        return self._matcher.ids(text)
