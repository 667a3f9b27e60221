"""The model's card: what a worker has to know to feed a version and to read its scores."""

from __future__ import annotations

import msgspec

from worker.text import Vocabulary

FORMAT = 1
ENCODER = "tfds-subwords"
THRESHOLD = 0.6
MAX_TOKENS = 4096


class Card(msgspec.Struct, frozen=True):
    """Served as JSON by the `vocabulary` signature, and kept as `assets.extra/card.json` in the version's folder."""

    format: int
    encoder: str
    subwords: int
    """How many subwords there are; their ids are 1 to this."""
    vocabulary_size: int
    """All ids: padding, subwords and the 256 bytes."""
    digest: str
    """`sha256:<hex>` of the vocabulary file."""
    labels: tuple[str, ...]
    threshold: float
    """A score at or above it gets the second label."""
    max_tokens: int
    """Tokens after which a review is cut."""
    padding_id: int = 0

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        *,
        labels: tuple[str, ...] = ("negative", "positive"),
        threshold: float = THRESHOLD,
        max_tokens: int = MAX_TOKENS,
    ) -> Card:
        """The card of a model that was trained with this vocabulary."""
        return cls(
            format=FORMAT,
            encoder=ENCODER,
            subwords=len(vocabulary.subwords),
            vocabulary_size=vocabulary.size,
            digest=vocabulary.digest,
            labels=labels,
            threshold=threshold,
            max_tokens=max_tokens,
        )

    def dump(self) -> bytes:
        """The card as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def parse(cls, data: bytes) -> Card:
        """Raises msgspec.ValidationError (a ValueError) for anything that is not a card."""
        return msgspec.json.decode(data, type=cls)
