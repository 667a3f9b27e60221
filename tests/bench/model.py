"""The served version as the bench's programs need it."""

from __future__ import annotations

from pathlib import Path

from trainer.versions.registry import Version
from worker.ports import Encoder
from worker.text import normalised, subword_encoder


def version(folder: Path) -> Version:
    """The version in this folder: its vocabulary, its card and its normaliser, which the loops call too."""
    return Version(int(folder.name), folder)


def encoder(folder: Path) -> Encoder:
    """The worker's own for it, normaliser included."""
    known = version(folder)
    card = known.card()
    return normalised(subword_encoder(known.vocabulary(), max_tokens=card.max_tokens), card.normaliser)
