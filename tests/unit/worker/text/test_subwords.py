"""The vocabulary and the automaton's encoder against tfds' own SubwordTextEncoder: same ids, texts and files."""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.support.encoding import encoded
from trainer.quiet import tfds  # silences what tensorflow says while it is imported, warnings included
from worker.records import DType
from worker.text.subwords import SubwordEncoder
from worker.text.vocabulary import HEADER, Vocabulary

TfdsEncoder = tfds.deprecated.text.SubwordTextEncoder

PLAIN = [
    "the_",
    "the",
    "th",
    "mov",
    "ie_",
    "ies_",
    ", ",
    ". ",
    " ",
    "  ",
    "é",
    "ée_",
    "😀",
    "a",
    "s_",
    "1",
    "12_",
    "_",
    "\\&",
    "dsc",
]
RESERVED = [*PLAIN, "<br", "foo\\&undsc", "._", "a b", "\ufffd\ufffda"]
FRAGMENTS = [
    *[
        "the",
        "movie",
        "movies",
        "a",
        "ée",
        "12",
        "foo",
        "b",
        " ",
        "  ",
        " ",
        "_",
        "__",
        "\\&undsc",
        "\\&",
        "undsc",
        "<br />",
        ".",
    ],
    *[
        ", ",
        "\n",
        "\t",
        "\r\n",
        "\x00",
        "\x1c",
        "\u00a0",
        "\u2028",
        "e\u0301",
        "😀",
        "👩‍👩‍👧",
        "²",
        "٣",
        "Ⅷ",
        "’",
        "\ufffd",
        "'",
        '"',
    ],
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=12).map("".join)
SUBWORDS = st.lists(st.text("ab_\\&é .-\U0001f600", min_size=0, max_size=5), max_size=12)


def encoder(subwords: Sequence[str] = PLAIN, **settings: Any) -> SubwordEncoder:
    return SubwordEncoder(Vocabulary(subwords), **{"max_tokens": 10_000, **settings})


@pytest.fixture(scope="module", params=[PLAIN, RESERVED], ids=["plain", "reserved"])
def subwords(request: pytest.FixtureRequest) -> Sequence[str]:
    return request.param  # type: ignore[no-any-return]  # pytest types params as Any


@pytest.fixture(scope="module")
def theirs(subwords: Sequence[str]) -> Any:
    return TfdsEncoder(subwords)


@pytest.fixture(scope="module")
def vocabulary(subwords: Sequence[str]) -> Vocabulary:
    return Vocabulary(subwords)


@pytest.fixture(scope="module")
def ours(vocabulary: Vocabulary) -> SubwordEncoder:
    return SubwordEncoder(vocabulary, max_tokens=10_000)


@given(TEXTS)
@example("That movie i saw the other day was fantabulous")
@example(" the")
@example("the ")
@example("the  ")
@example('the "movie" (a), <br /><br />the_movies the\\&undsc the.')
@example("\\&undsc \\&undsc_ _ __ \\&unds")
@settings(max_examples=600, deadline=None)
def test_ids_are_those_of_tfds(theirs: Any, vocabulary: Vocabulary, ours: SubwordEncoder, text: str) -> None:
    expected = theirs.encode(text)

    assert vocabulary.encode_ids(text) == expected
    assert encoded(ours, text) == (expected, False)


@given(SUBWORDS, st.lists(st.text("ab_\\&é .-\U0001f600", max_size=30), max_size=4))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_ids_are_those_of_tfds_for_any_vocabulary(subwords: list[str], texts: list[str]) -> None:
    vocabulary = Vocabulary(subwords)
    # tfds joins the reserved ones in a set's order, which differs from process to process: leave out what depends on it.
    assume(not any(a != b and a.startswith(b) for a in vocabulary.reserved for b in vocabulary.reserved))
    theirs = TfdsEncoder(subwords)
    ours = SubwordEncoder(vocabulary, max_tokens=10_000)

    assert vocabulary.size == theirs.vocab_size
    for text in texts:
        expected = theirs.encode(text)
        assert vocabulary.encode_ids(text) == expected
        assert encoded(ours, text) == (expected, False)
        assert vocabulary.decode(expected) == theirs.decode(expected)


def test_of_two_reserved_subwords_that_begin_alike_the_longer_wins() -> None:
    for subwords in (["a.", "a.b"], ["a.b", "a."]):
        assert Vocabulary(subwords).encode_ids("a.b") == [subwords.index("a.b") + 1]


def test_word_characters_are_those_of_regular_expressions() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))

    assert re.findall(r"\w", every) == [character for character in every if character.isalnum() or character == "_"]


@given(st.text(st.characters() | st.characters(categories=["Cs"])))
@example("the\ud800movie \udfff ")
@example("\ud83d\ude00")
@example("\ud800\udfffa")
def test_lone_surrogates_count_as_replacement_characters(
    ours: SubwordEncoder, vocabulary: Vocabulary, text: str
) -> None:
    replaced = re.sub("[\ud800-\udfff]", "\ufffd", text)

    assert encoded(ours, text) == encoded(ours, replaced)
    assert vocabulary.encode_ids(text) == vocabulary.encode_ids(replaced)


@given(TEXTS)
def test_decode_gives_what_tfds_gives(theirs: Any, vocabulary: Vocabulary, text: str) -> None:
    ids = theirs.encode(text)

    assert vocabulary.decode(ids) == theirs.decode(ids)
    assert vocabulary.decode([*ids, 0, 0]) == theirs.decode([*ids, 0, 0])


@given(st.lists(st.integers(-2, len(RESERVED) + 260) | st.just(0), max_size=12))
@example([])
@example([0, 0])
@example([1, 0, 1])
def test_decode_of_any_ids_is_what_tfds_does(theirs: Any, vocabulary: Vocabulary, ids: list[int]) -> None:
    try:
        expected = theirs.decode(ids)
    except ValueError:
        with pytest.raises(ValueError, match="is not in the vocabulary"):
            vocabulary.decode(ids)
    else:
        assert vocabulary.decode(ids) == expected


def test_pieces_read_as_subwords_and_bytes() -> None:
    assert Vocabulary(["the_", "mov"]).pieces("the mové") == [
        (1, "the_"),
        (2, "mov"),
        (3 + 0xC3, "<0xC3>"),
        (3 + 0xA9, "<0xA9>"),
    ]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=6), max_size=8))
@example(["'", "''", "'a'", "\x00", "\u2028", "### "])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_files_are_those_of_tfds(tmp_path: Path, subwords: list[str]) -> None:
    TfdsEncoder(subwords).save_to_file(str(tmp_path / "their"))
    vocabulary = Vocabulary(subwords)
    written = (tmp_path / "their.subwords").read_bytes()
    assert vocabulary.dump() == written
    assert vocabulary.digest == f"sha256:{hashlib.sha256(written).hexdigest()}"
    assert Vocabulary.parse(written).subwords == vocabulary.subwords

    (tmp_path / "our.subwords").write_bytes(vocabulary.dump())
    assert TfdsEncoder.load_from_file(str(tmp_path / "our")).subwords == list(vocabulary.subwords)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "does not begin with"),
        (b"[PAD]\n[UNK]\n", "does not begin with"),
        (b"### TokenTextEncoder\n### Metadata: {}\n'a'\n", "does not begin with"),
        (HEADER + b"'a'", "some of it is missing"),
        (HEADER + b"'a'\n'b", "some of it is missing"),
        (HEADER + b"'a'\nb\n", "line 4 is no subword between single quotes: 'b'"),
        (HEADER + b"'a\nb'\n", "line 3 is no subword"),
        (HEADER + b"'a'\n\n", "line 4"),
        (HEADER + b"'\n", "line 3"),
        (HEADER + b"'\xff'\n", "can't decode byte"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        Vocabulary.parse(data)


@pytest.mark.parametrize("subword", ["a\nb", "a\r", "\ud800"])
def test_a_subword_that_the_file_cannot_hold_is_refused(subword: str) -> None:
    with pytest.raises(ValueError, match=r"line break|surrogates"):
        Vocabulary(["a", subword])


@given(TEXTS, st.integers(1, 12), st.none() | st.integers(1, 12))
def test_a_row_is_cut_at_the_limit_and_says_so(
    vocabulary: Vocabulary, text: str, max_tokens: int, length: int | None
) -> None:
    limit = max_tokens if length is None else min(max_tokens, length)
    whole = vocabulary.encode_ids(text)

    found = encoded(SubwordEncoder(vocabulary, max_tokens=max_tokens, length=length), text)

    assert found == (whole[:limit], len(whole) > limit)


@given(TEXTS.filter(bool), st.integers(1, 5))
def test_a_text_that_is_far_too_long_is_cut_where_it_would_have_been_anyway(
    vocabulary: Vocabulary, text: str, max_tokens: int
) -> None:
    long = text * 200
    whole = vocabulary.encode_ids(long)

    assert encoded(SubwordEncoder(vocabulary, max_tokens=max_tokens), long) == (whole[:max_tokens], True)


class CountingVocabulary(Vocabulary):
    """Remembers how many characters it had to cut into subwords."""

    characters = 0

    def token_ids(self, token: str) -> list[int]:
        self.characters += len(token)
        return super().token_ids(token)


@pytest.mark.parametrize("text", ["x" * 1_000_000, " " * 1_000_000, "<" * 1_000_000, "a " * 500_000, "_" * 1_000_000])
def test_the_work_for_a_text_is_bounded_by_the_token_limit(text: str) -> None:
    vocabulary = CountingVocabulary(PLAIN)

    rows = SubwordEncoder(vocabulary, max_tokens=100).encode_many([text])

    assert (list(rows.tokens), rows.truncated) == ([100], 1)
    assert vocabulary.characters <= 104 * vocabulary.longest * len("\\&undsc")


@pytest.mark.parametrize(("dtype", "integer"), [(DType.INT32, "i"), (DType.INT64, "q")])
@pytest.mark.parametrize("padding_id", [0, 7])
def test_a_tensor_is_padded_in_the_models_dtype(dtype: DType, integer: str, padding_id: int) -> None:
    ours = encoder(dtype=dtype, padding_id=padding_id)
    rows = ours.encode_many(["", "the the movie", "a", "the "])
    longest = rows.tokens[1]

    tensor = rows.tensor([1, 3, 0], longest)

    assert (tensor.dtype, tensor.shape) == (dtype, (3, longest))
    numbers = struct.unpack(f"<{3 * longest}{integer}", tensor.content)
    assert list(numbers[:longest]) == Vocabulary(PLAIN).encode_ids("the the movie")
    assert list(numbers[longest:]) == [1] + [padding_id] * (2 * longest - 1)


def test_a_model_of_fixed_length_gets_rows_of_that_length() -> None:
    ours = encoder(length=5)
    rows = ours.encode_many(["the, a", "the " * 9])

    tensor = rows.tensor([0, 1], longest=max(rows.tokens))

    assert (list(rows.tokens), rows.truncated) == ([3, 5], 1)
    assert [rows.is_truncated(row) for row in (0, 1)] == [False, True]
    assert tensor.shape == (2, 5)
    assert struct.unpack("<10i", tensor.content) == (2, 7, 14, 0, 0, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("dtype", [DType.TEXT, DType.FLOAT64])
def test_a_dtype_that_holds_no_ids_is_refused(dtype: DType) -> None:
    with pytest.raises(ValueError, match="ids are sent as int32, int64, float32, not as"):
        encoder(dtype=dtype)


def test_neither_tensorflow_nor_tokenizers_is_imported() -> None:
    program = (
        "import sys, worker.text, worker.pipeline.batching;"
        "sys.exit(', '.join({'tensorflow', 'tensorflow_datasets', 'tokenizers', 'numpy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
