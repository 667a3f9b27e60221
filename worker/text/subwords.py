"""The subword vocabulary and its encoder: exactly the ids of tensorflow-datasets' SubwordTextEncoder, without tensorflow.

The trainer encodes with this module too, so training and serving cannot differ.

How a text is cut (tensorflow_datasets/core/deprecated/text/subword_text_encoder.py and text_encoder.py): into runs of word
characters and runs of others; a run followed by a single space takes that space in and ends in `_`; underscores of the text
become `\\&undsc`; each run is cut greedily into the longest subwords there are, and what no subword covers into UTF-8 bytes.
Ids: 0 is padding, then come the subwords, then the 256 bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, Sequence
from itertools import zip_longest
from struct import pack

from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

from worker.records import DType, Row, Tensor

HEADER = b"### SubwordTextEncoder\n### Metadata: {}\n"
UNDERSCORE = "\\&undsc"
BYTES = 256
START = 3
"""Characters by which a subword is looked for: knowing how long one that begins so can be halves the time for a new word."""

_RUNS = re.compile(r"\w+|\W+")
_SPACE = "\x01"
"""Stands for a space that no word takes in while a text is matched."""
_RARE = ("_", _SPACE)
"""Texts that hold one of these are cut the plain way."""
_mark_spaces = re.compile(r" (?:(?=\W)|(?<!\w ))").sub
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_FORMATS = {DType.INT32: "i", DType.INT64: "q", DType.FLOAT: "f"}
"""Models of Keras 2 may take ids as floats, which hold each whole number up to 2**24."""


def well_formed(text: str) -> str:
    """The text with U+FFFD for each lone surrogate (JSON can hold them, UTF-8 and tensors cannot)."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATES.sub("\ufffd", text)
    return text


def has_line_break(subword: str) -> bool:
    """Whether a vocabulary file cannot hold this subword: tfds writes it, but reads something else back, and then every
    later subword has another id."""
    return "\n" in subword or "\r" in subword


def packer(dtype: DType) -> Callable[[Sequence[int]], bytes]:
    """Writes ids as this dtype, little-endian. Raises ValueError for a dtype that holds no ids."""
    if dtype not in _FORMATS:
        raise ValueError(f"ids are sent as DT_INT32, DT_INT64 or DT_FLOAT, not as {dtype}")
    number = _FORMATS[dtype]
    return lambda ids: pack(f"<{len(ids)}{number}", *ids)


def padded(rows: Sequence[Row], padding: bytes) -> bytes:
    """The rows' contents one after the other, each brought to the length of `padding` by its end."""
    return b"".join([row.content + padding[len(row.content) :] for row in rows])


class Vocabulary:
    """Subwords and their ids. Empty subwords are dropped, as tfds does; an underscore at the end of one means a space.

    Raises ValueError for a subword with a line break, which the file cannot hold, and for one that is not Unicode text."""

    def __init__(self, subwords: Iterable[str]) -> None:
        self.subwords = tuple(subword for subword in subwords if subword)
        """Subword `subwords[i]` has id `i + 1`."""
        self.size = 1 + len(self.subwords) + BYTES
        """All ids: padding, subwords and bytes."""
        self.digest = f"sha256:{hashlib.sha256(self.dump()).hexdigest()}"
        """What `sha256sum` says of the file that `dump` gives."""
        self._first_byte = 1 + len(self.subwords)
        # The escaped underscore counts as a subword whose id is that of the byte.
        self._ids = {subword: n for n, subword in enumerate(self.subwords, 1)} | {
            UNDERSCORE: self._first_byte + ord("_")
        }
        self.longest = max(map(len, self._ids))
        """Characters of the longest subword: no id stands for more."""
        self._longest_by_start: dict[str, int] = {}
        for subword in self._ids:
            start = subword[:START]
            self._longest_by_start[start] = max(len(subword), self._longest_by_start.get(start, 0))
        # Subwords of mixed characters are found before the text is cut into runs. Where two begin at the same place tfds
        # takes any (it joins a set, whose order changes from process to process); here the longer one wins.
        self.reserved = {UNDERSCORE, *(subword for subword in self.subwords if len(_RUNS.findall(subword)) > 1)}
        """What is kept whole although it mixes word characters with others."""
        longest_first = sorted(self.reserved, key=lambda subword: (-len(subword), subword))
        self._reserved = re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    @classmethod
    def parse(cls, data: bytes) -> Vocabulary:
        """Reads what SubwordTextEncoder.save_to_file writes. Raises ValueError, naming the line."""
        if not data.startswith(HEADER):
            raise ValueError(f"it does not begin with the two lines {HEADER.decode()!r} of a tfds subword vocabulary")
        if not data.endswith(b"\n"):
            raise ValueError("it does not end with a line break, so some of it is missing")
        lines = data[len(HEADER) :].decode().split("\n")[:-1]
        for number, line in enumerate(lines, 3):
            if len(line) < 2 or line[0] != "'" or line[-1] != "'":
                raise ValueError(f"line {number} is no subword between single quotes: {line!r}")
        return cls(line[1:-1] for line in lines)

    def dump(self) -> bytes:
        """The bytes that SubwordTextEncoder.save_to_file writes."""
        for subword in self.subwords:
            if has_line_break(subword):
                raise ValueError(f"the subword {subword!r} holds a line break, which a vocabulary file cannot")
        return HEADER + "".join(f"'{subword}'\n" for subword in self.subwords).encode()

    def items(self) -> ItemsView[str, int]:
        """Each subword that has an id, and that id; the escaped underscore counts as one."""
        return self._ids.items()

    def byte_ids(self, text: str) -> list[int]:
        """The ids of the text's bytes in UTF-8, for what no subword covers."""
        return [self._first_byte + byte for byte in text.encode()]

    def encode_ids(self, text: str) -> list[int]:
        """The text's ids, the plain way; lone surrogates count as U+FFFD, where tfds raises. SubwordEncoder is faster."""
        return [token_id for token in self._tokens(well_formed(text)) for token_id in self.token_ids(token)]

    def has_reserved(self, text: str) -> bool:
        """Whether anything in the text is kept whole although it mixes word characters with others."""
        if len(self.reserved) == 1:  # as usual: only the escaped underscore
            return UNDERSCORE in text
        return self._reserved.search(text) is not None

    def token_ids(self, token: str) -> list[int]:
        """Cuts one token (`_` for its space, `\\&undsc` for its underscores) greedily into subwords and bytes.

        Takes time in proportion to the token's length."""
        ids: list[int] = []
        start, stop = 0, len(token)
        while start < stop:
            longest = self._longest_by_start.get(token[start : start + START], START - 1)
            for end in range(min(stop, start + longest), start, -1):
                found = self._ids.get(token[start:end])
                if found is not None:
                    ids.append(found)
                    start = end
                    break
            else:
                ids += self.byte_ids(" " if token[start] == "_" else token[start])
                start += 1
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids. Padding at the end is dropped; bytes that are no UTF-8 become U+FFFD.

        Raises ValueError for an id that is not in the vocabulary, and for padding before the end."""
        stop = len(ids)
        while stop and ids[stop - 1] == 0:
            stop -= 1
        texts: list[str] = []
        encoded = bytearray()
        for token_id in ids[:stop]:
            piece = self._piece(token_id)
            if isinstance(piece, int):
                encoded.append(piece)
                continue
            texts.append(encoded.decode("utf-8", "replace"))
            encoded.clear()
            texts.append(f"{piece[:-1]} " if piece.endswith("_") else piece)
        return "".join(texts) + encoded.decode("utf-8", "replace")

    def pieces(self, text: str) -> list[tuple[int, str]]:
        """Each id of the text with something to read: the subword as the vocabulary has it, or `<0xE2>` for a byte."""
        named = ((token_id, self._piece(token_id)) for token_id in self.encode_ids(text))
        return [(token_id, f"<0x{piece:02X}>" if isinstance(piece, int) else piece) for token_id, piece in named]

    def _tokens(self, text: str) -> Iterator[str]:
        runs = [
            run
            for part in self._reserved.split(text)
            for run in ([part] if part in self.reserved else _RUNS.findall(part))
        ]
        taken_in = False
        for run, following in zip_longest(runs, runs[1:]):
            if taken_in:
                taken_in = False
            elif run == UNDERSCORE:  # the text's own: cut in two, lest it be read as an underscore
                yield UNDERSCORE[:2]
                yield UNDERSCORE[2:] + ("_" if following == " " else "")  # and tfds encodes that space once more
            else:
                taken_in = following == " "
                yield run.replace("_", UNDERSCORE) + ("_" if taken_in else "")

    def _piece(self, token_id: int) -> str | int:
        if not 0 < token_id < self.size:
            raise ValueError(f"id {token_id} is not in the vocabulary, whose ids run from 1 to {self.size - 1}")
        return self.subwords[token_id - 1] if token_id < self._first_byte else token_id - self._first_byte


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
    """A `ports.Encoder` for models that were trained with a tfds subword vocabulary.

    `length`: tokens of every row, for a model whose input is not open in length. Raises ValueError for a dtype that holds
    no ids.

    Nothing is kept from text to text, so memory and time are the same whatever words arrive.
    """

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
        self._dtype = dtype
        self._pack = packer(dtype)
        self._width = len(self._pack([0]))
        self._padding = self._pack([padding_id])
        self._length = length
        self._limit = max_tokens if length is None else min(max_tokens, length)
        # What stands beyond cannot change the ids up to the limit: an id stands for `longest` characters at most, and
        # looks ahead for no more than that. So the work for a text is bounded, whatever arrives.
        self._limit_characters = (self._limit + 4) * vocabulary.longest
        self._matcher = _Matcher(vocabulary, self._pack)

    def encode(self, text: str) -> Row:
        """See ports.Encoder. Lone surrogates count as U+FFFD."""
        if len(text) > self._limit_characters:
            text = text[: self._limit_characters]
        text = well_formed(text)
        if any(map(text.__contains__, _RARE)) or self._vocabulary.has_reserved(text):
            content = self._pack(self._vocabulary.encode_ids(text))
        else:
            content = self._matcher.ids(text)
        count = len(content) // self._width
        if count > self._limit:
            return Row(content[: self._limit * self._width], self._limit, truncated=True)
        return Row(content, count, truncated=False)

    def tensor(self, rows: Sequence[Row], longest: int) -> Tensor:
        """See ports.Encoder: shape (rows, `length` or else `longest`)."""
        length = longest if self._length is None else self._length
        return Tensor(self._dtype, (len(rows), length), padded(rows, self._padding * length))
