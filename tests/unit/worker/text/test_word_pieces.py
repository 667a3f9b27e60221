"""The encoder of word pieces against tokenizers' own BertWordPieceTokenizer."""

from __future__ import annotations

import hashlib
import struct
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers.implementations import BertWordPieceTokenizer

from protos.model_card import EncoderKind
from tests.support.encoding import encoded
from worker.errors import ConfigError
from worker.records import DType, EncoderSpec
from worker.text.word_pieces import WordPieceEncoder

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


@pytest.mark.parametrize(("pieces", "lowercase"), [(UNCASED, True), (CASED, False)], ids=["uncased", "cased"])
@given(text=TEXTS, max_tokens=st.integers(3, 12))
@example(text="The movies was fantabulous!", max_tokens=8)
def test_ids_are_those_of_berts_tokenizer(pieces: list[str], lowercase: bool, text: str, max_tokens: int) -> None:
    theirs = BertWordPieceTokenizer({piece: n for n, piece in enumerate(pieces)}, lowercase=lowercase)
    whole = theirs.encode(text).ids
    theirs.enable_truncation(max_tokens)

    found = encoded(word_pieces(file(pieces), max_tokens=max_tokens), text)

    assert found == (theirs.encode(text).ids, len(whole) > max_tokens)


def test_without_cls_and_sep_in_the_vocabulary_a_row_is_the_pieces_alone() -> None:
    pieces = ["[PAD]", "[UNK]", "the", "movie", "##s"]
    ours = word_pieces(file(pieces), max_tokens=2)

    assert encoded(ours, "movies") == ([3, 4], False)
    assert encoded(ours, "the movies") == ([2, 3], True)
    assert encoded(ours, "") == ([], False)


def test_a_vocabulary_file_may_have_windows_line_ends() -> None:
    data = file(UNCASED)
    windows = word_pieces(data.replace(b"\n", b"\r\n"))

    assert encoded(windows, "the movies") == encoded(word_pieces(data), "the movies")
    assert windows.vocabulary_size == len(UNCASED)
    assert word_pieces(data).digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_word_pieces_are_padded_to_the_longest_or_to_the_models_length() -> None:
    open_ended, fixed = word_pieces(file(UNCASED)), word_pieces(file(UNCASED), length=4, dtype=DType.INT32)
    texts = ["the movies", "a"]

    tensor = open_ended.encode_many(texts).tensor([0, 1], longest=5)
    assert (tensor.dtype, tensor.shape) == (DType.INT64, (2, 5))
    assert struct.unpack("<10q", tensor.content) == (2, 5, 6, 7, 3, 2, 13, 3, 0, 0)

    tensor = fixed.encode_many(texts).tensor([0, 1], longest=4)
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
def test_no_text_is_too_odd(text: str) -> None:
    assert word_pieces(file(UNCASED)).encode_many([text]).tokens[0] >= 2
