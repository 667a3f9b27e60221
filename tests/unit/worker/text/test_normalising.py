"""`plain-1`: what it does, that ordinary changes to a text leave no trace, and what bounds its time."""

from __future__ import annotations

import html
import subprocess
import sys
import unicodedata
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protos.model_card import PLAIN_1, EncoderKind
from tests.support import extension
from worker.errors import ModelMismatch
from worker.ports import Rows
from worker.records import DType, EncoderSpec
from worker.text import build_encoder, normalising
from worker.text.normalising import plain_1

SPECIAL = "<>&;#/'\"_ \t\n\x1c\x85\xa0\u2028éÉßıİſſŉǰΐΣςᾳ\u0345\u0301\u0308\u05b0Ꭰꭰ가が\u3099﹤＆≮ﷺ😀\ud800“’—ﬁ"
texts = st.text(st.sampled_from("abXYZ .,!?9" + SPECIAL) | st.characters(), max_size=60)
words = st.lists(
    st.text(st.characters(exclude_characters="<>&;", exclude_categories=("Zs", "Zl", "Zp", "Cc", "Cs")), min_size=1)
)
SUBWORDS = ("good_", "good", "film_", "film", "a_", "movie", "s", " ", "é")


def encoded(text: str, name: str) -> tuple[bytes, list[int]]:
    """Its ids, by the encoder that a card with this normaliser gives."""
    spec = EncoderSpec(EncoderKind.SUBWORDS, DType.INT32, max_tokens=500, subwords=SUBWORDS, normaliser=name)
    rows: Rows = build_encoder(spec).encoder.encode_many([text])
    return rows.tensor([0], rows.tokens[0]).content, list(rows.tokens)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", " "),
        ("A good film.", "a good film "),
        ("  Two\t lines\r\nand\x0bmore \x1c ", "two lines and more "),
        ("one<br /><br />two<br/>three<BR>four", "one two three four "),
        ('<p class="x">A <b>good</b> film</p><!-- not shown -->', "a good film "),
        ("I <3 it; 5 > 4", "i 3 it 5 4 "),
        ("&quot;Tom &amp; Jerry&quot; isn&#39;t bad &#x2019;&hellip;", "tom jerry isnt bad "),
        ("R&D, AT&T; &unknown; 10/10 well-made", "r d at t unknown 10 10 well made "),
        ("&amp;lt;b&amp;gt;", "lt b gt "),
        ("&lt;b&gt;good&lt;/b&gt;", "good "),
        (f"&#{'9' * 5_000};", f"{'9' * 5_000} "),
        ("&#xD800;&#0;", " "),
        ("Amélie, NAÏVE, cafe\u0301", "amelie naive cafe "),
        ("“Don’t” — ﬁne… don't ʼtis", "dont fine dont tis "),
        ("STRASSE Straße \u212aelvin ½", "strasse strasse kelvin 1 2 "),
        ("映画 😀 が か\u3099", "映画 か か "),
        ("\u3000wide\xa0spaces\u2028here", "wide spaces here "),
        ("_under_score_ ©", "under score "),
        ("a\ud800b", "a b "),
    ],
)
def test_plain_1_by_hand(text: str, plain: str) -> None:
    assert plain_1(text) == plain


@given(texts)
@example("\u0345\u0301a")
@example("&amp;amp;lt;")
def test_normalising_again_changes_nothing(text: str) -> None:
    assert plain_1(plain_1(text)) == plain_1(text)


@given(words)
def test_capitals_leave_no_trace(parts: list[str]) -> None:
    text = " ".join(parts)
    assert plain_1(text.upper()) == plain_1(text.lower()) == plain_1(text)


def test_no_character_has_a_capital_that_differs() -> None:
    """Of the Basic Multilingual Plane and what follows; each alone, and after a letter, where it may compose."""
    characters = [
        chr(code) for code in range(0x20000) if chr(code).upper() != chr(code) or chr(code).lower() != chr(code)
    ]
    assert len(characters) > 2_000
    for character in characters:
        for text in (character, f"e{character}"):
            assert plain_1(text.upper()) == plain_1(text.lower()) == plain_1(text), ascii(text)
            assert plain_1(plain_1(text)) == plain_1(text), ascii(text)


@given(words, st.randoms(use_true_random=False))
def test_other_white_space_leaves_no_trace(parts: list[str], random: Random) -> None:
    spaced = "".join(
        part + "".join(random.choices(" \t\n\r\x0b\x0c\xa0\u2003\u3000", k=random.randint(1, 4))) for part in parts
    )
    assert plain_1(f"\n {spaced}") == plain_1(" ".join(parts))


@given(words, st.randoms(use_true_random=False))
def test_html_around_leaves_no_trace(parts: list[str], random: Random) -> None:
    tagged = [f"<b>{part}</b>" if random.random() < 0.5 else part for part in parts]
    text = " ".join(parts)
    assert plain_1(f'<p class="review">{" ".join(tagged)}</p><!-- end -->') == plain_1(text)
    assert plain_1("<br />".join(parts)) == plain_1(" <br/> ".join(parts)) == plain_1(text)


@given(words)
def test_html_escapes_leave_no_trace(parts: list[str]) -> None:
    text = " & ".join(f"<b>{part}</b><br />" for part in parts)
    assert plain_1(html.escape(text)) == plain_1(text)


@given(st.text(st.sampled_from("aeiou xyz")))
def test_accents_leave_no_trace_in_either_form(text: str) -> None:
    accented = "".join(letter + "\u0301" if letter in "aeiou" else letter for letter in text)
    assert plain_1(accented) == plain_1(unicodedata.normalize("NFC", accented)) == plain_1(text)


@given(texts)
def test_a_model_with_the_normaliser_is_fed_with_normalised_text(text: str) -> None:
    assert encoded(text, PLAIN_1) == encoded(plain_1(text), "")


@given(texts)
def test_the_score_of_a_text_is_that_of_its_variants(text: str) -> None:
    ids = encoded(text, PLAIN_1)
    assert encoded(f"<p>\n{text}\t</p>", PLAIN_1) == encoded(f"  {text}  ", PLAIN_1) == ids


@pytest.mark.parametrize("text", ["", " \n", "<br />", "<p></p>", "🎬", "?!… ;-)"])
def test_a_text_of_which_nothing_is_left_still_has_a_token(text: str) -> None:
    assert encoded(text, PLAIN_1) == encoded(" ", "")


def test_a_model_without_one_is_fed_with_the_text_as_it_is() -> None:
    assert encoded("A  Good<br />film", "") != encoded("a good film", "")


def test_an_unknown_normaliser_is_refused_with_a_sentence() -> None:
    with pytest.raises(ModelMismatch, match=r"normalised by `plain-9`; this installation knows plain-1 only\. Install"):
        encoded("good", "plain-9")


@pytest.mark.parametrize("text", ["\u0345\u0301\u0316" * 5_000, "ﷺ" * 5_000, "é" * 5_000, "\u05b0\u0301" * 5_000])
def test_characters_are_decomposed_one_at_a_time(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython brings a run of accents in order in quadratic time: 17 seconds for 129,000 of them."""
    lengths: list[int] = []

    def normalize(form: str, part: str) -> str:
        lengths.append(len(part))
        return unicodedata.normalize(form, part)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(normalising, "unicodedata", SimpleNamespace(normalize=normalize, category=unicodedata.category))
        normalising._folded_character.cache_clear()
        plain = plain_1(text)

    assert set(lengths) == {1}
    assert len(lengths) < 10, "a character is looked up once"
    assert len(plain) <= 18 * len(text) + 1


# The last steps in C

compiles = pytest.mark.skipif(extension.compiler() is None, reason="there is no C compiler")
ASCII = st.text(st.sampled_from("abXYZ .,'<<>>/!--\"=_&;09\0\x7f\t\n") | st.characters(max_codepoint=127), max_size=80)
built = pytest.mark.skipif(
    normalising._quick_words is normalising._words, reason="the extension is not built: there was no C compiler"
)


def test_they_are_built_where_there_is_a_compiler() -> None:
    if extension.compiler() is None:
        pytest.skip("there is no C compiler")
    assert normalising._quick_words is not normalising._words


@built
@given(ASCII, st.booleans())
@example("<a <b>c</b", True)
@example("<!-- a > b --><!-- c", True)
@example("<!-", True)
@example("<", True)
@example("<3 <1>", True)
def test_they_do_what_the_steps_in_python_do(text: str, tags: bool) -> None:
    assert normalising._quick_words(text, tags) == normalising._words(text, tags)


@built
@given(texts)
def test_they_leave_other_characters_as_they_are(text: str) -> None:
    folded = normalising._FOREIGN.sub(normalising._folded, normalising._without_tags(text))
    assert normalising._quick_words(folded, False) == normalising._words(folded, False)


@built
def test_they_refuse_what_utf8_cannot_write() -> None:
    with pytest.raises(UnicodeEncodeError):
        normalising._quick_words("\ud800", True)


SANITIZED = """
import sys
from pathlib import Path
from random import Random
from tests.support import extension
from worker.text import normalising
words = extension.load(Path(sys.argv[1]), "_normalise").words
random = Random(1)
for _ in range(20_000):
    text = "".join(random.choices("aZ0 '<>/!-=", k=random.randrange(40)))
    tags = random.random() < 0.8
    assert words(text, tags) == normalising._words(text, tags), text
print("the same")
"""


@compiles
def test_random_texts_under_the_sanitizers(tmp_path: Path) -> None:
    """Reads and writes outside of what is allocated: any of them ends the run."""
    sanitized, environment = extension.sanitized(tmp_path, name="_normalise")

    done = subprocess.run(
        [sys.executable, "-c", SANITIZED, str(sanitized)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=extension.ROOT,
        check=False,
    )

    assert done.stdout == "the same\n", done.stdout + done.stderr
