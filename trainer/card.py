"""The card of a model that was trained here."""

from __future__ import annotations

from protos.model_card import FORMAT, LABELS, MAX_TOKENS, NORMALISED_FORMAT, THRESHOLD, Card, EncoderKind
from worker.text import Vocabulary


def card_of(
    vocabulary: Vocabulary,
    *,
    labels: tuple[str, ...] = LABELS,
    threshold: float = THRESHOLD,
    max_tokens: int = MAX_TOKENS,
    normaliser: str = "",
    uncertain: tuple[float, float] | None = None,
) -> Card:
    """The card of a model that was trained with this vocabulary."""
    return Card(
        format=NORMALISED_FORMAT if normaliser else FORMAT,
        encoder=EncoderKind.SUBWORDS,
        subwords=len(vocabulary.subwords),
        vocabulary_size=vocabulary.size,
        digest=vocabulary.digest,
        labels=labels,
        threshold=threshold,
        max_tokens=max_tokens,
        normaliser=normaliser,
        uncertain=uncertain,
    )
