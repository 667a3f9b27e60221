"""The encoder of BERT models: word pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from worker.errors import ConfigError
from worker.records import EncoderSpec
from worker.text.rows import IdLayout, IdRows
from worker.text.unicode import well_formed

UNKNOWN, PADDING, FIRST, LAST, MASK = "[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"


class WordPieceEncoder:
    """A `ports.Encoder` for BERT models with a `vocab.txt`: one piece a line, its id the line's number from 0. Safe from
    several threads at once.

    Gives the ids of BertWordPieceTokenizer (the `tokenizers` package, optional: only here is it imported), between [CLS]
    and [SEP] where the vocabulary has both; they count as tokens, and a row that is cut keeps them. Text is lowercased
    and loses its accents unless the vocabulary has a piece in upper case, which could never be met otherwise.

    Raises ConfigError when `tokenizers` is not installed or no file was given, ValueError for a file that is no such
    vocabulary and for a token limit without room for a token.
    """

    name = "wordpiece"

    def __init__(self, spec: EncoderSpec) -> None:
        if not spec.vocabulary:
            raise ConfigError("a word piece model needs its vocab.txt: name the file with the setting `vocabulary`")
        pieces = _pieces(spec.vocabulary)
        self.vocabulary_size = len(pieces)
        self.digest = f"sha256:{hashlib.sha256(spec.vocabulary).hexdigest()}"
        """What `sha256sum` says of the file."""
        self._layout = IdLayout(spec.dtype, max_tokens=spec.max_tokens, padding_id=spec.padding_id, length=spec.length)
        ids = {piece: number for number, piece in enumerate(pieces)}
        framed = FIRST in ids and LAST in ids
        self._ending = 1 if framed else 0
        limit = self._layout.limit
        if limit < 1 + 2 * self._ending:
            raise ValueError(f"a limit of {limit} tokens leaves no room for a token between {FIRST} and {LAST}")
        self._tokenizer = _tokenizer(ids, framed=framed)

    def encode_many(self, texts: Sequence[str]) -> IdRows:
        """See ports.Encoder. Lone surrogates count as U+FFFD."""
        limit, pack = self._layout.limit, self._layout.pack
        contents: list[bytes] = []
        truncated: set[int] = set()
        for text in texts:
            ids = self._tokenizer.encode(well_formed(text)).ids
            if len(ids) > limit:
                truncated.add(len(contents))
                ids = [*ids[: limit - self._ending], *ids[len(ids) - self._ending :]]
            contents.append(pack(ids))
        return IdRows(contents, truncated, self._layout)


def _pieces(data: bytes) -> list[str]:
    lines = data.decode().split("\n")
    if not lines[-1]:
        lines.pop()
    pieces = [line.rstrip() for line in lines]
    if UNKNOWN not in pieces:
        raise ValueError(f"it has no line {UNKNOWN}, so it is no word piece vocabulary")
    return pieces


def _tokenizer(ids: dict[str, int], *, framed: bool) -> Any:
    """What `tokenizers.BertWordPieceTokenizer` sets up, but from memory; it refuses a vocabulary without [CLS], [SEP]."""
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    except ImportError as error:
        raise ConfigError(
            "a word piece vocabulary needs the package `tokenizers`: pip install 'inferry[wordpiece]'"
        ) from error
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.add_special_tokens([token for token in (UNKNOWN, LAST, FIRST, PADDING, MASK) if token in ids])
    cased = any(piece != piece.lower() for piece in ids if not piece.startswith("["))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if framed:
        tokenizer.post_processor = processors.BertProcessing((LAST, ids[LAST]), (FIRST, ids[FIRST]))
    return tokenizer
