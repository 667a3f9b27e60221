"""Two versions side by side on the same held-out reviews."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer import model as keras_model
from trainer.data import Example
from trainer.evaluation import Flags, Quality, quality
from trainer.scoring import Scorer
from trainer.versions.registry import Version

LATENCY_ROWS = 64
LATENCY_CALLS = 30


@dataclass(frozen=True)
class Scored:
    """One version's answers."""

    version: Version
    scores: keras_model.Scores
    says_positive: Flags
    quality: Quality
    milliseconds: float
    """Median time of a call with 64 reviews, in this process, without a server."""


@dataclass(frozen=True)
class Comparison:
    """What two versions say of the same reviews."""

    a: Scored
    b: Scored
    examples: Sequence[Example]

    @property
    def agreement(self) -> float:
        """Share of reviews with the same label."""
        return float(np.mean(self.a.says_positive == self.b.says_positive))

    @property
    def only_right(self) -> tuple[int, int]:
        """Reviews that A alone gets right, and that B alone does."""
        positive = np.array([example.positive for example in self.examples])
        a, b = self.a.says_positive == positive, self.b.says_positive == positive
        return int(np.sum(a & ~b)), int(np.sum(b & ~a))

    @property
    def p_value(self) -> float:
        """McNemar's."""
        return mcnemar(*self.only_right)

    def farthest_apart(self, count: int) -> list[int]:
        """Indexes of the reviews whose scores differ most, the largest difference first."""
        return np.argsort(-np.abs(self.a.scores - self.b.scores), kind="stable")[:count].tolist()  # type: ignore[no-any-return]


def compare(a: Version, b: Version, examples: Sequence[Example]) -> Comparison:
    """Scores every example with both, each encoded and labelled as its own card says. Raises DataError."""
    return Comparison(score(a, examples), score(b, examples), examples)


def score(version: Version, examples: Sequence[Example]) -> Scored:
    """One version's answers to the examples."""
    scorer = Scorer(version)
    rows = scorer.encode(example.text for example in examples)
    scores = scorer.score(rows)
    positive = np.array([example.positive for example in examples])
    batch = keras_model.pad(rows[:LATENCY_ROWS])
    times = []
    for _ in range(LATENCY_CALLS):
        began = time.perf_counter()
        scorer.call(batch)
        times.append(time.perf_counter() - began)
    threshold = scorer.card.threshold
    figures = quality(scores, positive, threshold)
    return Scored(version, scores, scores >= threshold, figures, 1_000 * float(np.median(times)))


def mcnemar(only_a_right: int, only_b_right: int) -> float:
    """The exact test's two-sided p: how likely a split at least as uneven is if both are equally good."""
    discordant = only_a_right + only_b_right
    fewer = min(only_a_right, only_b_right)
    tail = sum(math.comb(discordant, k) for k in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**discordant))
