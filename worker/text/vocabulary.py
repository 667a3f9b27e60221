"""The subword vocabulary: exactly the ids of tensorflow-datasets' SubwordTextEncoder, without tensorflow.

The plain reference, which every faster encoder is held against. Training and serving encode with the same vocabulary, so
they cannot differ.

How a text is cut (tensorflow_datasets/core/deprecated/text/subword_text_encoder.py and text_encoder.py): into runs of word
characters and runs of others; a run followed by a single space takes that space in and ends in `_`; underscores of the text
become `\\&undsc`; each run is cut greedily into the longest subwords there are, and what no subword covers into UTF-8 bytes.
Ids: 0 is padding, then come the subwords, then the 256 bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import ItemsView, Iterable, Iterator, Sequence
from itertools import zip_longest

from worker.text.unicode import well_formed

HEADER = b"### SubwordTextEncoder\n### Metadata: {}\n"
UNDERSCORE = "\\&undsc"
BYTES = 256
START = 3
"""Characters by which a subword is looked for: knowing how long one that begins so can be halves the time for a new word."""

_RUNS = re.compile(r"\w+|\W+")


def has_line_break(subword: str) -> bool:
    """Whether a vocabulary file cannot hold this subword: tfds writes it, but reads something else back, and then every
    later subword has another id."""
    return "\n" in subword or "\r" in subword


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
