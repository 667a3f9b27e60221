"""The served version as the bench's programs need it: its vocabulary, its card, and texts as it wants them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from protos.model_card import Card
from trainer.versions.layout import CARD_FILE, EXTRA
from worker.ports import Encoder
from worker.text import Vocabulary, normalised, normaliser, subword_encoder

VOCABULARY_FILE = "vocabulary.subwords"


def card(folder: Path) -> Card:
    """What the version in this folder says of itself."""
    return Card.parse((folder / EXTRA / CARD_FILE).read_bytes())


def vocabulary(folder: Path) -> Vocabulary:
    """Its subwords."""
    return Vocabulary.parse((folder / EXTRA / VOCABULARY_FILE).read_bytes())


def encoder(folder: Path) -> Encoder:
    """The worker's own for it, normaliser included."""
    known = card(folder)
    return normalised(subword_encoder(vocabulary(folder), max_tokens=known.max_tokens), known.normaliser)


def normalise(folder: Path) -> Callable[[str], str]:
    """What the version wants done to a text before it is encoded; the loops call it, too."""
    return normaliser(card(folder).normaliser)
