"""Changes to a text that leave its meaning alone: what a model should not care about.

Every change is a pure function from text to text; equal texts are changed equally on every machine."""

from __future__ import annotations

import html
import re
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase

import numpy as np

Change = Callable[[str], str]
SEED = 1
"""Of the typos and accents. It is mixed with a checksum of the text, so that each text has its own."""
BREAK = "<br /><br />"
"""How the IMDb reviews part their paragraphs."""
EMOJI = "🎬🍿🎥📺🎞📽🎟🎭🎤🎧"
"""They say nothing about whether a film is good."""
BEYOND_LIMIT_CHARACTERS = 40_000
"""A review of so many characters has more than the 4,096 tokens that the model takes."""

_ACUTE = "\N{COMBINING ACUTE ACCENT}"
_BREAKS = re.compile(r"(?:\s*<br\s*/?>\s*)+")
_SENTENCE_END = re.compile(r"([.!?]) +")
_LETTER = re.compile(r"[A-Za-z]")
_VOWEL = re.compile(r"[AEIOUaeiou]")
_APOSTROPHE = re.compile(r"(?<=\w)'")
_QUOTED = re.compile(r'"([^"]*)"')


def typos(text: str, share: float, seed: int = SEED) -> str:
    """About `share` of the letters a to z mistyped: left out, doubled, replaced by any letter or swapped with the next
    character, each as often as the others."""
    random = _random(text, seed)
    hit = random.random(len(text)) < share
    ways, others = random.integers(4, size=len(text)), random.integers(26, size=len(text))
    typed = []
    late = ""  # a letter that was swapped and still has to come
    for at, letter in enumerate(text):
        if late or not (hit[at] and _LETTER.match(letter)):
            typed.append(letter + late)
            late = ""
        elif ways[at] == 3:  # swapped
            late = letter
        else:
            typed.append(("", letter * 2, ascii_lowercase[others[at]])[ways[at]])
    return "".join(typed) + late


def accents(text: str, share: float, seed: int = SEED) -> str:
    """About `share` of the vowels a, e, i, o, u with an acute accent, as one character each."""
    random = _random(text, seed)

    def accented(found: re.Match[str]) -> str:
        return unicodedata.normalize("NFC", found[0] + _ACUTE) if random.random() < share else found[0]

    return _VOWEL.sub(accented, text)


def without_accents(text: str) -> str:
    """Letters without their accents: é becomes e."""
    apart = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(each for each in apart if not unicodedata.combining(each)))


def decomposed(text: str) -> str:
    """Accents as characters of their own (Unicode's NFD), as some systems write them."""
    return unicodedata.normalize("NFD", text)


def with_breaks(text: str) -> str:
    """A paragraph break in HTML after every sentence."""
    return _SENTENCE_END.sub(rf"\1{BREAK}", text)


def without_breaks(text: str) -> str:
    """A space in place of HTML's line breaks."""
    return _BREAKS.sub(" ", text).strip()


def with_tags(text: str) -> str:
    """The text as a paragraph in HTML, every tenth word in bold type."""
    words = text.split(" ")
    words[9::10] = [f"<b>{word}</b>" for word in words[9::10]]
    return f"<p>{' '.join(words)}</p>"


def with_entities(text: str) -> str:
    """The text escaped for HTML: quotes, apostrophes, ampersands and angle brackets as entities."""
    return html.escape(text)


def with_curly_quotes(text: str) -> str:
    """Quotes and apostrophes as typesetters and phones write them: “ ” and ’."""
    return _QUOTED.sub("“\\1”", _APOSTROPHE.sub("’", text))


def with_emoji(text: str, count: int) -> str:
    """So many emoji, at most ten, after the text."""
    return f"{text} {EMOJI[:count]}"


def without_punctuation(text: str) -> str:
    """A space in place of each run of anything but word characters, apostrophes apart; HTML's breaks go with them."""
    return re.sub(r"[^\w']+", " ", _BREAKS.sub(" ", text)).strip()


def wide_spaced(text: str) -> str:
    """Three spaces in place of each."""
    return text.replace(" ", "   ")


def on_lines(text: str) -> str:
    """A line break and an indent in place of every tenth space, as in mail."""
    words = text.split(" ")
    return "\n    ".join(" ".join(words[at : at + 10]) for at in range(0, len(words), 10))


def repeated(text: str, times: int) -> str:
    """The text so many times, with a space between."""
    return " ".join([text] * times)


def repeated_to(text: str, characters: int) -> str:
    """The text again and again, until it has so many characters at least."""
    return repeated(text, max(1, -(-characters // (len(text) + 1))))


def _random(text: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(text.encode(errors="replace"))])


@dataclass(frozen=True)
class Perturbation:
    """A change, with its name as the report has it."""

    name: str
    change: Change


PERTURBATIONS = (
    Perturbation("upper case", str.upper),
    Perturbation("lower case", str.lower),
    Perturbation("typos in 1% of the letters", partial(typos, share=0.01)),
    Perturbation("typos in 5% of the letters", partial(typos, share=0.05)),
    Perturbation("typos in 10% of the letters", partial(typos, share=0.1)),
    Perturbation("`<br /><br />` after every sentence", with_breaks),
    Perturbation("`<br />` taken out", without_breaks),
    Perturbation("`<p>` around it, every tenth word in `<b>`", with_tags),
    Perturbation("HTML entities: `&quot;` `&#x27;` `&amp;` `&lt;` `&gt;`", with_entities),
    Perturbation("curly quotes and apostrophes: “ ” ’", with_curly_quotes),
    Perturbation("no punctuation and no HTML", without_punctuation),
    Perturbation("an accent on a tenth of the vowels", partial(accents, share=0.1)),
    Perturbation("an accent on every vowel", partial(accents, share=1.0)),
    Perturbation("accents stripped", without_accents),
    Perturbation("accents as characters of their own (NFD)", decomposed),
    Perturbation("one emoji at the end", partial(with_emoji, count=1)),
    Perturbation("ten emoji at the end", partial(with_emoji, count=10)),
    Perturbation("three spaces for each", wide_spaced),
    Perturbation("a line break and an indent every ten words", on_lines),
    Perturbation("said three times", partial(repeated, times=3)),
    Perturbation("repeated beyond the token limit", partial(repeated_to, characters=BEYOND_LIMIT_CHARACTERS)),
)
