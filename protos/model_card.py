"""The model's card: what a worker has to know to feed a model version and to read its scores. The trainer writes it, the
worker reads it.

A version tells it itself, by a signature beside `serving_default`: `vocabulary` takes `ids` int32 [n] and gives `subword`
string [n], where ids 1 … n are the subwords, and `card` string [n], where every row is the same JSON: a Card.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

FORMAT = 1
NORMALISED_FORMAT = 2
"""A card's format is raised where an older reader would misread it: it would feed a model that wants normalised text with
text as it is. So a card that names a normaliser has this format; one without has the first, which every reader knows."""

PLAIN_1 = "plain-1"
"""The name of a text normaliser; `worker.text.normalising` says what it does."""

SIGNATURE = "vocabulary"
IDS = "ids"
"""Its one input."""
SUBWORD = "subword"
CARD = "card"
"""Its outputs."""

LABELS = ("negative", "positive")
UNCERTAIN = "uncertain"
"""The label of a review whose score is in the card's range `uncertain`."""
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
    normaliser: str = ""
    """What is done to a text before it is encoded, by its name: see `worker.text.normalising`. Empty: nothing."""
    uncertain: tuple[float, float] | None = None
    """With one score: from the first to below the second a review gets the label `uncertain`. None: every review gets one of
    `labels`."""

    def dump(self) -> bytes:
        """The card as JSON. What it leaves at its default among the newer fields is not in it."""
        fields = msgspec.structs.asdict(self)
        return msgspec.json.encode({name: fields[name] for name in fields if name not in _NEWER or fields[name]})

    @classmethod
    def parse(cls, content: bytes) -> Card:
        """Raises ValueError, whose sentence says what is wrong with the card."""
        try:
            card = msgspec.json.decode(content, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"The model's card cannot be read: {error}.") from error
        if card.format not in (FORMAT, NORMALISED_FORMAT):
            raise ValueError(
                f"The model's card has format {card.format}; only the formats {FORMAT} and {NORMALISED_FORMAT} can be read."
            )
        if card.uncertain and not 0 <= card.uncertain[0] < card.uncertain[1] <= 1:
            raise ValueError(f"The model's card has no range of scores between 0 and 1 as uncertain: {card.uncertain}.")
        return card


_NEWER = ("normaliser", "uncertain")
