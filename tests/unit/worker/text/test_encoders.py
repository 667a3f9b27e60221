"""Encoders for models that take text or BERT's word pieces; the latter against tokenizers' own BertWordPieceTokenizer."""

from __future__ import annotations

import hashlib
import struct
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers.implementations import BertWordPieceTokenizer

from worker.errors import ConfigError
from worker.records import DType, EncoderKind, EncoderSpec, Row
from worker.text.encoders import TextEncoder, WordPieceEncoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
UNCASED = [
    *SPECIAL,
    "the",
    "movie",
    "##s",
    "was",
    "fan",
    "##ta",
    "##bu",
    "##lous",
    "a",
    "##a",
    "e",
    "##e",
    ".",
    ",",
    "中",
    "!",
]
CASED = [*UNCASED, "The", "É"]
FRAGMENTS = [
    "the",
    "The",
    "movies",
    " ",
    "  ",
    "é",
    "É",
    "中",
    "\x00",
    "\ufffd",
    "a",
    "[SEP]",
    "[",
    "!",
    ".",
    "\n",
    "😀",
    "x" * 120,
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=10).map("".join)


def file(pieces: list[str]) -> bytes:
    return "".join(f"{piece}\n" for piece in pieces).encode()


def word_pieces(
    vocabulary: bytes, *, max_tokens: int = 512, dtype: DType = DType.INT64, length: int | None = None
) -> WordPieceEncoder:
    return WordPieceEncoder(EncoderSpec(EncoderKind.WORDPIECE, dtype, max_tokens, length=length, vocabulary=vocabulary))


def unpack(row: Row) -> list[int]:
    return list(struct.unpack(f"<{row.tokens}q", row.content))


@pytest.mark.parametrize(("pieces", "lowercase"), [(UNCASED, True), (CASED, False)], ids=["uncased", "cased"])
@given(text=TEXTS, max_tokens=st.integers(3, 12))
@example(text="The movies was fantabulous!", max_tokens=8)
def test_ids_are_those_of_berts_tokenizer(pieces: list[str], lowercase: bool, text: str, max_tokens: int) -> None:
    theirs = BertWordPieceTokenizer({piece: n for n, piece in enumerate(pieces)}, lowercase=lowercase)
    whole = theirs.encode(text).ids
    theirs.enable_truncation(max_tokens)

    row = word_pieces(file(pieces), max_tokens=max_tokens).encode(text)

    assert unpack(row) == theirs.encode(text).ids
    assert row.truncated == (len(whole) > max_tokens)


def test_without_cls_and_sep_in_the_vocabulary_a_row_is_the_pieces_alone() -> None:
    pieces = ["[PAD]", "[UNK]", "the", "movie", "##s"]
    ours = word_pieces(file(pieces), max_tokens=2)

    assert unpack(ours.encode("movies")) == [3, 4]
    assert ours.encode("the movies") == Row(struct.pack("<2q", 2, 3), 2, truncated=True)
    assert ours.encode("").tokens == 0


def test_a_vocabulary_file_may_have_windows_line_ends() -> None:
    data = file(UNCASED)
    windows = word_pieces(data.replace(b"\n", b"\r\n"))

    assert windows.encode("the movies") == word_pieces(data).encode("the movies")
    assert windows.vocabulary_size == len(UNCASED)
    assert word_pieces(data).digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_word_pieces_are_padded_to_the_longest_or_to_the_models_length() -> None:
    open_ended, fixed = word_pieces(file(UNCASED)), word_pieces(file(UNCASED), length=4, dtype=DType.INT32)
    texts = ["the movies", "a"]

    tensor = open_ended.tensor([open_ended.encode(text) for text in texts], longest=5)
    assert (tensor.dtype, tensor.shape) == (DType.INT64, (2, 5))
    assert struct.unpack("<10q", tensor.content) == (2, 5, 6, 7, 3, 2, 13, 3, 0, 0)

    tensor = fixed.tensor([fixed.encode(text) for text in texts], longest=4)
    assert (tensor.dtype, tensor.shape) == (DType.INT32, (2, 4))
    assert struct.unpack("<8i", tensor.content) == (2, 5, 6, 3, 2, 13, 3, 0)


@pytest.mark.parametrize(
    ("vocabulary", "max_tokens", "told"),
    [
        (b"the\nmovie\n", 16, "no line \\[UNK\\]"),
        (b"\xff\xfe", 16, "can't decode byte"),
        (file(UNCASED), 2, "leaves no room"),
    ],
)
def test_what_cannot_work_is_refused(vocabulary: bytes, max_tokens: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        word_pieces(vocabulary, max_tokens=max_tokens)


def test_a_model_without_a_vocabulary_file_is_told_of_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"vocab\.txt"):
        word_pieces(b"")


def test_without_the_package_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(ConfigError, match=r"pip install 'inferry\[wordpiece\]'"):
        word_pieces(file(UNCASED))


@given(st.text(st.characters() | st.characters(categories=["Cs"])))
def test_no_text_is_too_odd_for_either(text: str) -> None:
    assert word_pieces(file(UNCASED)).encode(text).tokens >= 2
    row = TextEncoder().encode(text)
    assert (row.tokens, row.truncated) == (1, False)
    assert len(row.content.decode()) == len(text)


def test_text_goes_as_it_is() -> None:
    ours = TextEncoder()
    rows = [ours.encode("é 😀"), ours.encode("a\ud800")]

    tensor = ours.tensor(rows, longest=1)

    assert (tensor.dtype, tensor.shape) == (DType.STRING, (2,))
    assert list(tensor.strings) == ["é 😀".encode(), "a\ufffd".encode()]
