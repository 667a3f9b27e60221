"""Encoders for models that want something else than tfds subwords: text as it is, or BERT's word pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from worker.errors import ConfigError
from worker.records import DType, EncoderSpec, Row, Tensor
from worker.text.subwords import packer, padded, well_formed

UNKNOWN, PADDING, FIRST, LAST, MASK = "[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"


class TextEncoder:
    """A `ports.Encoder` for models that encode for themselves: a row is the text in UTF-8 and counts as one token."""

    def encode(self, text: str) -> Row:
        """See ports.Encoder. Lone surrogates become U+FFFD."""
        return Row(well_formed(text).encode(), 1, truncated=False)

    def tensor(self, rows: Sequence[Row], longest: int) -> Tensor:  # noqa: ARG002  text is not padded
        """See ports.Encoder: DT_STRING of shape (rows,)."""
        return Tensor(DType.STRING, (len(rows),), strings=[row.content for row in rows])


class WordPieceEncoder:
    """A `ports.Encoder` for BERT models with a `vocab.txt`: one piece a line, its id the line's number from 0.

    Gives the ids of BertWordPieceTokenizer (the `tokenizers` package, optional: only here is it imported), between [CLS]
    and [SEP] where the vocabulary has both; they count as tokens, and a row that is cut keeps them. Text is lowercased
    and loses its accents unless the vocabulary has a piece in upper case, which could never be met otherwise.

    Raises ConfigError when `tokenizers` is not installed or no file was given, ValueError for a file that is no such
    vocabulary and for a token limit without room for a token.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        if not spec.vocabulary:
            raise ConfigError("a word piece model needs its vocab.txt: name the file with the setting `vocabulary`")
        pieces = _pieces(spec.vocabulary)
        self.vocabulary_size = len(pieces)
        self.digest = f"sha256:{hashlib.sha256(spec.vocabulary).hexdigest()}"
        """What `sha256sum` says of the file."""
        self._dtype = spec.dtype
        self._pack = packer(spec.dtype)
        self._width = len(self._pack([0]))
        self._padding = self._pack([spec.padding_id])
        self._length = spec.length
        self._limit = spec.max_tokens if spec.length is None else min(spec.max_tokens, spec.length)
        ids = {piece: number for number, piece in enumerate(pieces)}
        framed = FIRST in ids and LAST in ids
        self._ending = 1 if framed else 0
        if self._limit < 1 + 2 * self._ending:
            raise ValueError(f"a limit of {self._limit} tokens leaves no room for a token between {FIRST} and {LAST}")
        self._tokenizer = _tokenizer(ids, framed=framed)

    def encode(self, text: str) -> Row:
        """See ports.Encoder. Lone surrogates count as U+FFFD."""
        ids = self._tokenizer.encode(well_formed(text)).ids
        if len(ids) <= self._limit:
            return Row(self._pack(ids), len(ids), truncated=False)
        kept = [*ids[: self._limit - self._ending], *ids[len(ids) - self._ending :]]
        return Row(self._pack(kept), self._limit, truncated=True)

    def tensor(self, rows: Sequence[Row], longest: int) -> Tensor:
        """See ports.Encoder: shape (rows, `length` or else `longest`)."""
        length = longest if self._length is None else self._length
        return Tensor(self._dtype, (len(rows), length), padded(rows, self._padding * length))


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
