"""The model's card: what a worker has to know to feed a model version and to read its scores. The trainer writes it, the
worker reads it.

A version tells it itself, by a signature beside `serving_default`: `vocabulary` takes `ids` int32 [n] and gives `subword`
string [n], where ids 1 … n are the subwords, and `card` string [n], where every row is the same JSON: a Card.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

FORMAT = 1
"""Raised when an older reader would misread a card; a new field with a default leaves it as it is."""

SIGNATURE = "vocabulary"
IDS = "ids"
"""Its one input."""
SUBWORD = "subword"
CARD = "card"
"""Its outputs."""

LABELS = ("negative", "positive")
THRESHOLD = 0.6
MAX_TOKENS = 4_096
"""What counts for a model that says nothing else."""


class EncoderKind(StrEnum):
    """How a model wants its text."""

    SUBWORDS = "tfds-subwords"
    WORDPIECE = "wordpiece"
    TEXT = "text"
    """As it is, in UTF-8: the model encodes for itself."""


class Card(msgspec.Struct, frozen=True):
    """One version's card."""

    format: int
    encoder: EncoderKind
    subwords: int
    """How many subwords there are; their ids are 1 to this."""
    vocabulary_size: int
    """All ids: padding, subwords and the 256 bytes."""
    digest: str
    """`sha256:<hex>` of the vocabulary's file."""
    labels: tuple[str, ...]
    """The first is the negative one where there are two."""
    threshold: float
    """With one score: at or above it a review gets the second label."""
    max_tokens: int
    """Tokens after which a review is cut."""
    padding_id: int = 0

    def dump(self) -> bytes:
        """The card as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def parse(cls, content: bytes) -> Card:
        """Raises ValueError, whose sentence says what is wrong with the card."""
        try:
            card = msgspec.json.decode(content, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"The model's card cannot be read: {error}.") from error
        if card.format != FORMAT:
            raise ValueError(f"The model's card has format {card.format}; only format {FORMAT} can be read.")
        return card
