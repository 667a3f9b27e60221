from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.models import tiny_vocabulary
from trainer import model as keras_model
from trainer import training, vocabulary
from trainer.augmentation import Augmentation, sentences, spellings
from trainer.errors import BelowStandard
from trainer.evaluation import quality
from trainer.figures import Data, Figures, History, Sentence, libraries
from trainer.report import report
from worker.text import Vocabulary

VOCABULARY = tiny_vocabulary()
rows_of_ids = st.lists(st.integers(1, VOCABULARY.size - 1), min_size=1, max_size=60)


def figures(accuracy: float = 0.9, last_label: str = "negative") -> Figures:
    positive = np.arange(1_000) % 2 == 0
    right = np.arange(1_000) < accuracy * 1_000
    scores = np.where(positive == right, 0.9, 0.1)
    found = quality(scores, positive, 0.6)
    return Figures(
        created="2026-01-01T00:00:00+00:00",
        seed=0,
        epochs=3,
        data=Data("somewhere & <elsewhere>", "sha256:00", 10, 2, 1_000),
        vocabulary_size=300,
        vocabulary_digest="sha256:11",
        history=History([0.6, 0.5], [0.6, 0.7], [0.6, 0.55], [0.6, 0.7], 2),
        test=found,
        validation=found,
        sentences=[
            Sentence("a <b>good</b> one", ["a_", "<", "b"], 0.9, "positive", "positive"),
            Sentence("aweful", ["aw", "eful"], 0.9 if last_label == "positive" else 0.1, last_label, "negative"),
        ],
        largest_difference_from_keras=1e-7,
        hard_sentences=[Sentence("not bad", ["not_", "bad"], 0.2, "negative", "positive")],
        libraries=dict(libraries()),
        cpu_seconds={"Fitting": 1.0},
    )


def test_a_model_that_keeps_its_promises_is_exported() -> None:
    training.check(figures())


def test_a_model_below_the_standard_is_not() -> None:
    with pytest.raises(BelowStandard, match=r"86\.90% of the test part.*87% is asked"):
        training.check(figures(accuracy=0.869))


def test_nor_is_one_that_gets_a_sentence_wrong() -> None:
    with pytest.raises(BelowStandard, match=r"“aweful” scores 0\.900, which is positive, not negative"):
        training.check(figures(last_label="positive"))


def test_figures_survive_being_written_and_read() -> None:
    assert Figures.parse(figures().dump()) == figures()
    with pytest.raises(msgspec.ValidationError):
        Figures.parse(b'{"seed": 1}')


def test_the_report_stands_alone_and_shows_text_as_text() -> None:
    scores, positive = np.linspace(0, 1, 200), np.arange(200) > 90
    page = report.html(figures(), scores, positive).decode()

    assert page.count("<svg") == page.count("<figcaption>") == 5
    assert "<script" not in page
    assert 'src="' not in page
    assert "@import" not in page
    assert "a &lt;b&gt;good&lt;/b&gt; one" in page
    assert "somewhere &amp; &lt;elsewhere&gt;" in page
    assert "90.0%" in page
    assert "not bad<div" in page
    assert "wrong, it is positive" in page
    assert report.html(figures(), scores, positive).decode() == page


@given(rows_of_ids, st.integers(0, 1_000))
def test_spelling_changes_no_letter(ids: list[int], seed: int) -> None:
    change = Augmentation(VOCABULARY, seed, spelled_share=1.0, cropped_share=0.0)
    changed, weight = change(np.array(ids, np.int32), np.array([len(ids)], np.int32))

    assert letters(changed.tolist()) == letters(ids)
    assert len(changed) >= len(ids)
    assert weight == 1


def letters(ids: list[int]) -> bytes:
    """What the ids spell. Decoding each alone would hide what bytes of one character become when they are together."""
    return VOCABULARY.decode(ids).encode()


def test_a_word_is_spelled_as_if_the_vocabulary_did_not_have_it() -> None:
    vocabulary = Vocabulary(["awful_", "awful", "aw", "ful_", "fantastic", "fan", "tas", "tic", "fantas", "the_"])

    def spelled(word: str) -> list[list[str]]:
        return [[vocabulary.subwords[token - 1] for token in ids] for ids in spellings(vocabulary, word)]

    assert spelled("awful_") == [["aw", "ful_"]]
    assert spelled("fantastic") == [["fan", "tas", "tic"], ["fantas", "tic"]]
    assert spelled("the_") == []


def test_each_way_to_spell_a_word_comes_up() -> None:
    vocabulary = Vocabulary(["fantastic", "fan", "tas", "tic", "fantas"])
    change = Augmentation(vocabulary, 1, spelled_share=1.0, cropped_share=0.0)
    row, ends = np.array([1, 1], np.int32), np.array([2], np.int32)

    seen = {tuple(change(row, ends)[0].tolist()) for _ in range(100)}

    one, two = (2, 3, 4), (5, 4)
    assert seen == {one + one, one + two, two + one, two + two}


@given(st.lists(st.integers(1, 12), min_size=1, max_size=10), st.integers(0, 1_000))
def test_a_crop_is_some_sentences_in_a_row_and_counts_for_less(lengths: list[int], seed: int) -> None:
    ids = list(range(1, sum(lengths) + 1))
    ends = np.cumsum(lengths)
    change = Augmentation(VOCABULARY, seed, spelled_share=0.0, cropped_share=1.0, crop_weight=0.25)

    changed, weight = change(np.array(ids, np.int32), ends.astype(np.int32))

    cropped = changed.tolist()
    assert cropped == list(range(cropped[0], cropped[-1] + 1))
    assert cropped[0] - 1 in [0, *ends]
    assert cropped[-1] in ends
    assert weight == (0.25 if len(cropped) < len(ids) else 1.0)
    assert len(cropped) >= min(3, len(ids))


def test_a_review_is_cut_into_its_sentences() -> None:
    text = "So bad it's good! 3.5 of 5... What?<br /><br />No <b>way.</b>  "
    assert [part.strip() for part in sentences(text)] == [
        "So bad it's good!",
        "3.5 of 5...",
        "What?",
        "No <b>way.",
        "</b>",
    ]
    assert sentences("") == [""]


def numbered_rows(count: int) -> keras_model.Encoded:
    random = np.random.default_rng(0)
    rows = [np.full(random.integers(1, 50), number + 1, np.int32) for number in range(count)]
    return keras_model.Encoded(rows, np.arange(count, dtype=np.float32))


def test_each_epoch_shows_every_row_once_with_its_label_in_another_order() -> None:
    batches = keras_model.Batches(numbered_rows(1_000), seed=0)

    def epoch() -> list[int]:
        shown = []
        for tokens, labels, weights in (batches[index] for index in range(len(batches))):
            assert (weights == 1).all()
            assert (tokens[:, 0] == labels[:, 0] + 1).all()
            assert ((tokens == tokens[:, :1]) | (tokens == 0)).all()
            shown += labels[:, 0].astype(int).tolist()
        return shown

    first = epoch()
    batches.on_epoch_end()
    second = epoch()

    assert sorted(first) == sorted(second) == list(range(1_000))
    assert first != second


def test_the_order_follows_from_the_seed() -> None:
    def order(seed: int) -> list[list[int]]:
        batches = keras_model.Batches(numbered_rows(500), seed)
        return [labels[:, 0].tolist() for _, labels, _ in (batches[index] for index in range(len(batches)))]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_predicting_keeps_the_order_of_the_rows() -> None:
    rows = numbered_rows(600).rows

    scores = keras_model.predict(lambda tokens: tokens[:, :1].astype(np.float32), rows)

    assert scores.tolist() == [number + 1 for number in range(600)]


def test_the_vocabulary_has_whole_words_and_no_long_pieces_from_inside_them() -> None:
    words = ("fantastic", "fantasy", "fantasies", "wonderful", "wonders", "beautiful")
    texts = [f"{word} " for word in words for _ in range(9)]  # "fantas" and "wonder" are more frequent than any word

    found = vocabulary.build(texts, 300).subwords

    assert {f"{word}_" for word in words} <= {*found}
    inner = [subword for subword in found if subword.isalpha()]
    assert all(len(subword) <= vocabulary.LONGEST_INNER for subword in inner)
