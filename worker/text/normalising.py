"""What is done to a text before it is encoded, by the name that a model's card gives it.

It lives here because encoding does: the trainer builds its vocabulary from these texts and encodes them with this very
function, as do the worker, `ask` and `tokens`, so that training and serving cannot differ. A name stands for one
behaviour for ever: what would change an id gets a new name.

`plain-1` leaves the words of a text and nothing else, in this order:

1. HTML's character references that end in `;` become what they stand for; then its tags and comments become a space, those
   that had been escaped too.
2. What is not ASCII is decomposed (Unicode NFKD), its case is folded, and its accents are dropped (general categories Mn
   and Me), character by character.
3. Letters become lower case, apostrophes are dropped ("don't" and "don’t" are both "dont"), and whatever is neither letter
   nor digit becomes a space, punctuation and emoji included.
4. Each word is followed by one space, the last one too. Subwords of tfds hold the space that follows them: so a word has one
   id wherever it stands. A text without a word is one space.

The result holds nothing that is changed again, so normalising it once more changes nothing.

Time and memory are linear in the text's length, whatever it holds: a pattern's match begins at `<` or `&` and ends before
the next one, and a character gives at most 18 (U+FDFA). That is why characters are decomposed one by one: bringing a run
of accents into its canonical order, which is part of NFKD for a whole text, takes CPython quadratic time. Which characters
there are is the interpreter's Unicode version, as for the encoders.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

from protos.model_card import PLAIN_1
from worker.errors import ModelMismatch
from worker.ports import Encoder, Rows

_PARAGRAPH, _BREAK = "<br /><br />", "<br />"
"""More than half of the IMDb reviews have these tags and no other, so they get a quick way."""
_TAG = re.compile(r"<(?:[A-Za-z/][^<>]*+>|!--[^<>]*+>)")
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_FOREIGN = re.compile("[^\0-\x7f]+")
_ALIKE = {"‘": "'", "’": "'", "ʼ": "'", "'": "'", "ı": "i"}
"""Apostrophes, and the one letter whose capital is another letter's (Turkish dotless i)."""
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() or chr(code) == "'" else ord(" ") for code in range(128))
_ASCII += bytes(range(128, 256))
"""What becomes of each byte of UTF-8; those of other characters than ASCII's stay as they are."""
_CACHED_CHARACTERS = 4_096


def plain_1(text: str) -> str:
    """The text as models whose card says `plain-1` want it; see the module. Never raises, for lone surrogates neither."""
    if "&" in text:
        text = _REFERENCE.sub(_referred, text)
    if "<" in text:
        text = text.replace(_PARAGRAPH, " ").replace(_BREAK, " ")
        if "<" in text:
            text = _TAG.sub(" ", text)
    if not text.isascii():
        text = _FOREIGN.sub(_folded, text)
    words = text.encode().translate(_ASCII, b"'").split()
    words.append(b"")
    return b" ".join(words).decode() or " "


Normalise = Callable[[str], str]
NORMALISERS: dict[str, Normalise] = {PLAIN_1: plain_1}
"""By the name that a card has."""


def normaliser(name: str) -> Normalise:
    """What a card's `normaliser` of this name does to a text; the empty name leaves it as it is.

    Raises ModelMismatch for a name that is not known."""
    if not name:
        return str
    if name not in NORMALISERS:
        raise ModelMismatch(
            f"The model's card asks for texts that are normalised by `{name}`; this installation knows "
            f"{', '.join(NORMALISERS)} only. Install a newer Inferry, or serve a version of the model that it knows."
        )
    return NORMALISERS[name]


class NormalisingEncoder:
    """A `ports.Encoder` that normalises each text and has another encode it. Safe from several threads, as that one is."""

    def __init__(self, encoder: Encoder, normalise: Normalise) -> None:
        self._encoder = encoder
        self._normalise = normalise

    @property
    def name(self) -> str:
        """Of the encoder: it, and not the normaliser, depends on how the worker was installed."""
        return self._encoder.name

    def encode_many(self, texts: Sequence[str]) -> Rows:
        """See ports.Encoder."""
        return self._encoder.encode_many([*map(self._normalise, texts)])


def _referred(reference: re.Match[str]) -> str:
    return html.unescape(reference[0])


def _folded(run: re.Match[str]) -> str:
    return "".join(map(_folded_character, run[0]))


@lru_cache(_CACHED_CHARACTERS)
def _folded_character(character: str) -> str:
    """What is left of one character: letters, digits and marks that take up room; an apostrophe; else a space."""
    folded = unicodedata.normalize("NFKD", character).casefold()
    return "".join(map(_letter, folded))


def _letter(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Mn", "Me"):
        return ""
    if character in _ALIKE:
        return _ALIKE[character]
    return character if character.isalnum() or category == "Mc" else " "
