"""Changes to texts: each does what its name says, does it alike every time, and leaves the rest alone."""

from __future__ import annotations

import html
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.quality import perturbations
from trainer.quality.perturbations import PERTURBATIONS, Perturbation

REVIEW = 'I saw "Amélie" again. It\'s great!<br /><br />Really, a fine film; 10/10 & more.'
texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=200)
letters = st.text("abcXYZ ", max_size=200)


@pytest.mark.parametrize("each", PERTURBATIONS, ids=lambda each: each.name)
@given(text=texts)
def test_any_text_can_be_changed_and_is_changed_alike(each: Perturbation, text: str) -> None:
    changed = each.change(text)

    assert changed == each.change(text)
    changed.encode()  # still text that can be sent


@pytest.mark.parametrize("each", PERTURBATIONS, ids=lambda each: each.name)
def test_each_changes_a_review_and_is_listed_once(each: Perturbation) -> None:
    long_review = " ".join([REVIEW] * 10)

    assert each.change(long_review) != long_review
    assert [other.name for other in PERTURBATIONS].count(each.name) == 1


def test_nothing_is_mistyped_or_accented_at_a_share_of_nothing() -> None:
    assert perturbations.typos(REVIEW, 0) == REVIEW
    assert perturbations.accents(REVIEW, 0) == REVIEW


@given(text=letters)
def test_typos_touch_letters_alone(text: str) -> None:
    changed = perturbations.typos(text, 1)

    assert changed.count(" ") == text.count(" ")


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_as_many_letters_are_mistyped_as_asked_in_four_ways_alike(share: float) -> None:
    text = "q..;" * 20_000

    typed = perturbations.typos(text, share).split(";")[:-1]

    ways = Counter(
        {"..": "left out", "qq..": "doubled", ".q.": "swapped", "q..": ""}.get(cell, "replaced") for cell in typed
    )
    assert len(typed) == 20_000
    for way in ("left out", "doubled", "swapped", "replaced"):
        assert ways[way] == pytest.approx(20_000 * share / 4, rel=0.25), way
    assert perturbations.typos(text, share) != perturbations.typos(text, share, seed=2)


@given(text=texts)
def test_every_vowel_gets_an_accent_and_loses_it_again(text: str) -> None:
    plain = perturbations.without_accents(text)
    accented = perturbations.accents(plain, 1)

    assert not set("aeiouAEIOU") & set(accented)
    assert perturbations.without_accents(accented) == plain


@given(text=texts)
def test_without_accents_no_combining_character_is_left(text: str) -> None:
    apart = unicodedata.normalize("NFD", perturbations.without_accents(text))

    assert not any(map(unicodedata.combining, apart))


@given(text=texts)
def test_entities_say_the_same_to_a_browser(text: str) -> None:
    escaped = perturbations.with_entities(text)

    assert html.unescape(escaped) == text or "&" in text
    assert not set("<>\"'") & set(escaped)


def test_breaks_come_after_sentences_and_go_again() -> None:
    broken = perturbations.with_breaks("Good. Not bad! Really? Yes.")

    assert broken == "Good.<br /><br />Not bad!<br /><br />Really?<br /><br />Yes."
    assert perturbations.without_breaks(broken) == "Good. Not bad! Really? Yes."


def test_tags_are_around_the_text_and_every_tenth_word() -> None:
    words = [str(n) for n in range(1, 21)]

    tagged = perturbations.with_tags(" ".join(words))

    assert tagged.startswith("<p>1 2 ")
    assert tagged.endswith(" 19 <b>20</b></p>")
    assert tagged.count("<b>") == tagged.count("</b>") == 2
    assert "9 <b>10</b> 11" in tagged


def test_quotes_as_typesetters_write_them() -> None:
    assert perturbations.with_curly_quotes('It\'s "fine", they said') == "It’s “fine”, they said"


def test_without_punctuation_words_and_apostrophes_stay() -> None:
    assert perturbations.without_punctuation(REVIEW) == "I saw Amélie again It's great Really a fine film 10 10 more"


@given(text=texts)
def test_white_space_changes_nothing_but_white_space(text: str) -> None:
    assert perturbations.wide_spaced(text).split() == text.split()
    assert perturbations.on_lines(text).split() == text.split()


def test_emoji_come_after_the_text() -> None:
    assert perturbations.with_emoji("Fine.", 2) == f"Fine. {perturbations.EMOJI[:2]}"
    assert len(perturbations.EMOJI) == 10


@given(text=texts.filter(bool), characters=st.integers(1, 2_000))
def test_repeated_until_it_is_long_enough_and_no_longer(text: str, characters: int) -> None:
    long_text = perturbations.repeated_to(text, characters)

    assert characters - 1 <= len(long_text)
    assert len(long_text) <= characters + 2 * len(text) + 1
    assert set(long_text.replace(text, "")) <= {" "}
