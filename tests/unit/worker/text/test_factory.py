"""Every encoder that a model version may get, through its port."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from protos.model_card import PLAIN_1, EncoderKind
from worker.ports import BuiltEncoder, Rows
from worker.records import DType, EncoderSpec, Tensor
from worker.text import Vocabulary, build_encoder, compiled, factory
from worker.text.compiled import CompiledEncoder

SUBWORDS = ("the_", "the", "movie", "s_", ", ", "é", "good", " ", "not", "<br /")
FRAGMENTS = ["the ", "movie", "movies ", "good", "_", ", ", "é", "中", "😀", "\ud800", "x" * 40, "<br />", "\n", " not"]
WORD_PIECES = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\nmovie\n##s\ngood\n"
THREADS = 4

SPECS = {
    "subwords": EncoderSpec(EncoderKind.SUBWORDS, DType.INT32, max_tokens=20, subwords=SUBWORDS),
    "fixed length": EncoderSpec(EncoderKind.SUBWORDS, DType.FLOAT32, max_tokens=20, length=12, subwords=SUBWORDS),
    "normalised": EncoderSpec(EncoderKind.SUBWORDS, DType.INT32, max_tokens=20, subwords=SUBWORDS, normaliser=PLAIN_1),
    "word pieces": EncoderSpec(EncoderKind.WORDPIECE, DType.INT64, max_tokens=20, vocabulary=WORD_PIECES),
    "text": EncoderSpec(EncoderKind.TEXT, DType.TEXT, max_tokens=20),
}


@pytest.fixture(params=SPECS)
def built(request: pytest.FixtureRequest) -> BuiltEncoder:
    return build_encoder(SPECS[request.param])


def windows(count: int, texts: int = 20) -> list[list[str]]:
    random = Random(7)
    return [["".join(random.choices(FRAGMENTS, k=random.randrange(30))) for _ in range(texts)] for _ in range(count)]


def all_of(rows: Rows) -> tuple[Tensor, Sequence[int], list[bool]]:
    indexes = range(len(rows.tokens))
    return rows.tensor(indexes, max(rows.tokens)), list(rows.tokens), [rows.is_truncated(index) for index in indexes]


def test_it_is_safe_from_several_threads_at_once(built: BuiltEncoder) -> None:
    """The deliverer encodes again while the reader encodes, when a version went away."""
    texts = windows(40)
    expected = [all_of(built.encoder.encode_many(window)) for window in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            every = [
                pool.submit(lambda: [built.encoder.encode_many(window) for window in texts]) for _ in range(THREADS)
            ]
            found = [future.result() for future in every]
            # Rows are read from several threads as well.
            read = [list(pool.map(all_of, rows)) for rows in found]
    finally:
        sys.setswitchinterval(interval)
    assert read == [expected] * THREADS


def test_a_row_does_not_depend_on_its_window(built: BuiltEncoder) -> None:
    (texts,) = windows(1, texts=50)
    whole = built.encoder.encode_many(texts)
    for index, text in enumerate(texts):
        alone = built.encoder.encode_many([text])
        tokens = whole.tokens[index]
        assert (alone.tokens[0], alone.is_truncated(0)) == (tokens, whole.is_truncated(index))
        assert alone.tensor([0], tokens) == whole.tensor([index], tokens)


def test_a_window_counts_what_was_cut(built: BuiltEncoder) -> None:
    (texts,) = windows(1, texts=50)
    rows = built.encoder.encode_many(texts)
    assert rows.truncated == sum(rows.is_truncated(index) for index in range(len(texts)))


def test_an_empty_window_has_no_rows(built: BuiltEncoder) -> None:
    rows = built.encoder.encode_many([])
    assert (list(rows.tokens), rows.truncated) == ([], 0)


def test_the_vocabulary_is_the_one_that_was_told() -> None:
    vocabulary = Vocabulary(SUBWORDS)
    told = build_encoder(SPECS["subwords"])
    from_file = build_encoder(
        EncoderSpec(EncoderKind.SUBWORDS, DType.INT32, max_tokens=20, vocabulary=vocabulary.dump())
    )
    assert (told.vocabulary_size, told.digest) == (vocabulary.size, vocabulary.digest)
    assert (from_file.vocabulary_size, from_file.digest) == (vocabulary.size, vocabulary.digest)


def test_each_encoder_says_which_it_is() -> None:
    subwords = "compiled" if compiled.available() else "automaton"
    assert [build_encoder(spec).encoder.name for spec in SPECS.values()] == [
        *[subwords] * 3,
        "wordpiece",
        "text",
    ]


def test_a_vocabulary_that_the_compiled_encoder_cannot_take_gets_the_automaton(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> CompiledEncoder:
        raise ValueError("8,000,000 subwords are too many for this encoder")

    monkeypatch.setattr(factory, "CompiledEncoder", refuse)
    assert build_encoder(SPECS["subwords"]).encoder.name == "automaton"


def test_without_the_extension_there_is_the_automaton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_AVAILABLE", False)
    assert build_encoder(SPECS["subwords"]).encoder.name == "automaton"
