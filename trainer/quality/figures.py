"""The figures of the quality report, kept as `quality.json`. Shares and scores are fractions of 1."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from trainer.evaluation import Confusion

HALF = 0.5
"""The threshold at which Keras counts, told beside the one that is served."""


class AtThreshold(msgspec.Struct, frozen=True):
    """Labels at one threshold."""

    threshold: float
    accuracy: float
    confusion: Confusion


class Part(msgspec.Struct, frozen=True):
    """Some reviews and the scores' figures on them."""

    reviews: int
    at: list[AtThreshold]
    """At 0.5 and at the threshold that is served, the lower one first."""
    auc: float
    log_loss: float
    calibration_error: float


class Unsure(msgspec.Struct, frozen=True):
    """What becomes of the reviews if scores from `least` to below `most` get the label `uncertain`."""

    least: float
    most: float
    share: float
    """Of the reviews, that are uncertain then."""
    accuracy: float
    """Of the labels that are left, where a score below `least` means negative and another positive."""


class Length(msgspec.Struct, frozen=True):
    """The reviews of one range of lengths."""

    least_tokens: int
    most_tokens: int | None
    reviews: int
    accuracy: float
    """At the served threshold."""
    accuracy_at_half: float
    log_loss: float
    calibration_error: float


class Domain(msgspec.Struct, frozen=True):
    """One set of reviews."""

    name: str
    all: Part
    curve: list[AtThreshold]
    """The labels at other thresholds, the lowest first."""
    unsure: list[Unsure]
    lengths: list[Length]


class Moved(msgspec.Struct, frozen=True):
    """What one change does to the scores of the test reviews that it changes; all figures are of those alone."""

    name: str
    reviews: int
    tokens_factor: float
    """Tokens after the change for each before it."""
    truncated: float
    """Share that reaches the token limit."""
    mean_move: float
    """Mean of |score after - score before|."""
    p95_move: float
    mean_shift: float
    """Mean of score after - score before: which way."""
    flipped: float
    """Share whose label changes, at the served threshold."""
    accuracy_before: float
    accuracy_after: float
    """At the served threshold."""
    accuracy_at_half_before: float
    accuracy_at_half_after: float


class Special(msgspec.Struct, frozen=True):
    """A text that is no review: the bare model's score, and what the service does with it."""

    name: str
    tokens: int
    truncated: bool
    score: float
    answer: str
    """A label, or `dead letter` and its reason."""


class Report(msgspec.Struct, frozen=True):
    """All that is kept as `quality.json`."""

    seed: int | None
    """Of the training; None for a version that does not tell."""
    trained_on: int | None
    """Reviews."""
    data: str
    """Where the reviews come from."""
    data_digest: str
    held_out: bool
    """Whether the version says that it was trained on this very split, so that it has never seen these test reviews."""
    vocabulary_digest: str
    threshold: float
    max_tokens: int
    normaliser: str
    """What the card says is done to a text first; empty for nothing."""
    libraries: Mapping[str, str]
    domains: list[Domain]
    moved: list[Moved]
    special: list[Special]

    def dump(self) -> bytes:
        """Indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Report:
        """Raises msgspec.ValidationError (a ValueError) for anything else."""
        return msgspec.json.decode(data, type=cls)
