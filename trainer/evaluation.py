"""How good scores are, from scores and true labels alone. Pure numpy; every function takes arrays [n]."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]
CALIBRATION_BINS = 10
SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1 before their logarithm is taken, as Keras does."""


class Bin(msgspec.Struct, frozen=True):
    """The reviews whose scores lie in one tenth of the range."""

    count: int
    mean_score: float
    positive_share: float


class Confusion(msgspec.Struct, frozen=True):
    """Counts at a threshold; "true" means that the label given is the author's."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class Quality(msgspec.Struct, frozen=True):
    """The figures of one model on one set of reviews."""

    reviews: int
    accuracy: float
    """At `threshold`, as the worker labels."""
    accuracy_at_half: float
    """At 0.5, as Keras counts."""
    threshold: float
    auc: float
    log_loss: float
    calibration_error: float
    confusion: Confusion
    calibration: list[Bin]


def quality(scores: Floats, positive: Flags, threshold: float) -> Quality:
    """All figures at once. A score at or above the threshold means positive."""
    bins = calibration(scores, positive)
    return Quality(
        reviews=len(scores),
        accuracy=accuracy(scores, positive, threshold),
        accuracy_at_half=accuracy(scores, positive, 0.5),
        threshold=threshold,
        auc=auc(scores, positive),
        log_loss=log_loss(scores, positive),
        calibration_error=calibration_error(bins),
        confusion=confusion(scores, positive, threshold),
        calibration=bins,
    )


def accuracy(scores: Floats, positive: Flags, threshold: float) -> float:
    """The share that is labelled as its author meant it."""
    return float(np.mean((scores >= threshold) == positive))


def confusion(scores: Floats, positive: Flags, threshold: float) -> Confusion:
    """Who was taken for what."""
    said = scores >= threshold
    return Confusion(
        true_positive=int(np.sum(said & positive)),
        false_positive=int(np.sum(said & ~positive)),
        true_negative=int(np.sum(~said & ~positive)),
        false_negative=int(np.sum(~said & positive)),
    )


def auc(scores: Floats, positive: Flags) -> float:
    """The chance that a random positive review scores above a random negative one, ties counting half
    (Mann-Whitney's U over its maximum). NaN where one of the two is missing."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(np.sum(positive))
    pairs = positives * (len(scores) - positives)
    if not pairs:
        return float("nan")
    return float((np.sum(ranks[positive]) - positives * (positives + 1) / 2) / pairs)


def log_loss(scores: Floats, positive: Flags) -> float:
    """Binary cross-entropy in nats: the loss the model was fitted with."""
    clipped = np.clip(np.asarray(scores, np.float64), SMALLEST, 1 - SMALLEST)
    return float(-np.mean(np.log(np.where(positive, clipped, 1 - clipped))))


def calibration(scores: Floats, positive: Flags, bins: int = CALIBRATION_BINS) -> list[Bin]:
    """Scores in equal ranges, with the share that really is positive; an empty range has count 0 and two zeros."""
    which = np.minimum((scores * bins).astype(int), bins - 1)
    counted = []
    for index in range(bins):
        inside = which == index
        count = int(np.sum(inside))
        means = (float(np.mean(scores[inside])), float(np.mean(positive[inside]))) if count else (0.0, 0.0)
        counted.append(Bin(count, *means))
    return counted


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: how far score and truth are apart on average, bins weighted by their reviews."""
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.mean_score - each.positive_share) for each in bins) / total
