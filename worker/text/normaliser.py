"""What is done to a text before it is encoded, by the name that a model's card gives it.

It lives here because encoding does: the trainer builds its vocabulary from these texts and encodes them with this very
function, as do the worker, `ask` and `tokens`, so that training and serving cannot differ. A name stands for one
behaviour for ever: what would change an id gets a new name.

`plain-1`, in this order:

1. HTML's tags and comments become a space; its character references that end in `;` become what they stand for.
2. What is not ASCII is decomposed (Unicode NFKD, character by character), loses its accents (U+0300 to U+036F), and its
   case is folded. Curly quotes and long dashes become straight and short ones.
3. `&` becomes the word "and"; `<` and `>` that are part of no tag become a space. So nothing in a normalised text reads as
   HTML once more, and normalising it again changes nothing.
4. Lower case, and one space for each run of white space, none at either end.

Time and memory are linear in the text's length, whatever it holds: a pattern's match begins at `<` or `&` and ends before
the next one, and a character gives at most 18 (U+FDFA). That is why characters are decomposed one by one: bringing a run
of accents into its canonical order, which is part of NFKD and NFKC, takes CPython quadratic time. Which characters there
are is the interpreter's Unicode version, as for the encoders.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

from protos.model_card import PLAIN_1
from worker.ports import Encoder, Rows

_PARAGRAPH, _BREAK = "<br /><br />", "<br />"
"""More than half of the IMDb reviews have these tags and no other, so they get a quick way."""
_TAG = re.compile(r"<(?:[A-Za-z/][^<>]*+>|!--[^<>]*+>)")
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_FOREIGN = re.compile("[^\0-\x7f]+")
_ACCENTS = re.compile("[\u0300-\u0344\u0346-\u036f]+")
"""Without the iota subscript, which in capitals is a letter of its own."""
_TYPOGRAPHY = str.maketrans(
    {**dict.fromkeys("‘’‚‛", "'"), **dict.fromkeys("“”„‟«»", '"'), **dict.fromkeys("‐‑‒–—―", "-"), "ı": "i"}
)
_ASCII = bytes(ord(" ") if chr(code).isspace() or chr(code) in "<>" else ord(chr(code).lower()) for code in range(128))
_ASCII += bytes(range(128, 256))
"""Lower case, and a space for each `<`, `>` and white space. The other bytes of UTF-8 stay as they are."""
_CACHED_CHARACTERS = 4_096


def plain_1(text: str) -> str:
    """The text as models whose card says `plain-1` want it; see the module. Never raises; lone surrogates stay."""
    if "<" in text:
        text = text.replace(_PARAGRAPH, " ").replace(_BREAK, " ")
        if "<" in text:
            text = _TAG.sub(" ", text)
    if "&" in text:
        text = _REFERENCE.sub(_referred, text)
    if not text.isascii():
        text = _FOREIGN.sub(_folded, text)
    if "&" in text:
        text = text.replace("&", " and ")
    text = text.encode(errors="surrogatepass").translate(_ASCII).decode(errors="surrogatepass")
    if not text.isascii():
        return " ".join(text.split())  # there are white spaces beyond ASCII
    while "  " in text:
        text = text.replace("  ", " ")
    return text.strip(" ")


Normalise = Callable[[str], str]
NORMALISERS: dict[str, Normalise] = {PLAIN_1: plain_1}
"""By the name that a card has."""
NOTHING = " "
"""What a text becomes of which nothing is left, such as one of tags alone: a row has at least one token."""


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
        normalise = self._normalise
        return self._encoder.encode_many([normalise(text) or NOTHING for text in texts])


def _referred(reference: re.Match[str]) -> str:
    return html.unescape(reference[0])


def _folded(run: re.Match[str]) -> str:
    return "".join(map(_folded_character, run[0]))


@lru_cache(_CACHED_CHARACTERS)
def _folded_character(character: str) -> str:
    return _ACCENTS.sub("", unicodedata.normalize("NFKD", character).translate(_TYPOGRAPHY)).casefold()
