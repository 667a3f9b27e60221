"""How good a version is and what moves its scores: everything `inferry-trainer quality` writes down.

Figures are rounded, so that the last bits of a machine's arithmetic make no difference to the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from protos.codecs import CodecError, decode_review
from trainer import evaluation
from trainer.data import Example, Reviews
from trainer.evaluation import Confusion, Flags, Floats
from trainer.figures import Figures, libraries
from trainer.perturbations import PERTURBATIONS, Perturbation
from trainer.scoring import Scorer
from worker.config import Settings

DIGITS = 5
HALF = 0.5
LENGTHS = ((0, 50), (51, 150), (151, 300), (301, 600), (601, None))
"""Tokens of a review, from and to, both included."""
MAX_BYTES: int = Settings.model_fields["max_review_bytes"].default
SPECIAL_TEXTS = (
    ("nothing", ""),
    ("white space alone", " \t\n "),
    ("the word “good”", "good"),
    ("the word “bad”", "bad"),
    ("the word “film”", "film"),
    ("one emoji", "🎬"),
    ("punctuation alone", "?!… ;-)"),
    ("digits alone", "10 10 10"),
    (
        "praise in German, “Ein wunderbarer Film, den ich sehr empfehle.”",
        "Ein wunderbarer Film, den ich sehr empfehle.",
    ),
    ("praise in Japanese, “とても素晴らしい映画でした。”", "とても素晴らしい映画でした。"),
    ("one word of 20,000 letters", "a" * 20_000),
    ("200,000 characters, “A great film. ” repeated", ("A great film. " * 15_000)[:200_000]),
    ("300,000 characters of the same", ("A great film. " * 25_000)[:300_000]),
)


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


def measure(
    scorer: Scorer,
    figures: Figures | None,
    reviews: Reviews,
    sentences: Sequence[Example],
    *,
    on_change: Callable[[str], None] = lambda _: None,
) -> Report:
    """Scores the reviews' test part as it is and changed, and the sentences (of another domain).

    `on_change` is called with the name of each change before it is tried. `figures` are the version's own, if it has any."""
    threshold = scorer.card.threshold
    domains = [
        domain(scorer, "IMDb reviews, the held-out test part", reviews.test),
        domain(scorer, "Rotten Tomatoes sentences, another domain", sentences),
    ]
    report = Report(
        seed=figures.seed if figures else None,
        trained_on=figures.data.train if figures else None,
        data=reviews.source,
        data_digest=reviews.digest,
        held_out=figures is not None and figures.data.digest == reviews.digest,
        vocabulary_digest=scorer.card.digest,
        threshold=threshold,
        max_tokens=scorer.card.max_tokens,
        libraries=libraries(),
        domains=domains,
        moved=moves(scorer, reviews.test, PERTURBATIONS, on_change),
        special=[special(scorer, name, text) for name, text in SPECIAL_TEXTS],
    )
    return rounded(report)


def domain(scorer: Scorer, name: str, examples: Sequence[Example]) -> Domain:
    """The figures of one set of reviews."""
    rows = scorer.encode(example.text for example in examples)
    scores, positive = scorer.score(rows), positives(examples)
    counts = np.array([len(row) for row in rows])
    lengths = []
    for least, most in LENGTHS:
        inside = (counts >= least) & (counts <= (most or scorer.card.max_tokens))
        if inside.any():
            lengths.append(length(scores[inside], positive[inside], scorer.card.threshold, least, most))
    return Domain(name, part(scores, positive, scorer.card.threshold), lengths)


def part(scores: Floats, positive: Flags, threshold: float) -> Part:
    """The figures of scores [n] whose authors meant `positive` [n]."""
    found = evaluation.quality(scores, positive, threshold)
    at = [
        AtThreshold(each, evaluation.accuracy(scores, positive, each), evaluation.confusion(scores, positive, each))
        for each in sorted({HALF, threshold})
    ]
    return Part(len(scores), at, found.auc, found.log_loss, found.calibration_error)


def length(scores: Floats, positive: Flags, threshold: float, least: int, most: int | None) -> Length:
    """The figures of the reviews in one range."""
    found = evaluation.quality(scores, positive, threshold)
    return Length(
        least, most, len(scores), found.accuracy, found.accuracy_at_half, found.log_loss, found.calibration_error
    )


def moves(
    scorer: Scorer, examples: Sequence[Example], changes: Sequence[Perturbation], on_change: Callable[[str], None]
) -> list[Moved]:
    """What each change does, in their order. One that changes no review is left out."""
    texts = [example.text for example in examples]
    rows = scorer.encode(texts)
    counts, scores, positive = np.array([len(row) for row in rows]), scorer.score(rows), positives(examples)
    found = []
    for each in changes:
        on_change(each.name)
        after = [each.change(text) for text in texts]
        changed = np.array([old != new for old, new in zip(texts, after, strict=True)])
        if changed.any():
            changed_rows = scorer.encode(text for text, is_changed in zip(after, changed, strict=True) if is_changed)
            changed_counts = np.array([len(row) for row in changed_rows])
            truncated = float(np.mean(changed_counts >= scorer.card.max_tokens))
            factor = float(changed_counts.sum() / counts[changed].sum())
            new_scores = scorer.score(changed_rows)
            threshold = scorer.card.threshold
            found.append(
                moved(each.name, scores[changed], new_scores, positive[changed], threshold, (factor, truncated))
            )
    return found


def moved(
    name: str,
    before: Floats,
    after: Floats,
    positive: Flags,
    threshold: float,
    tokens: tuple[float, float],
) -> Moved:
    """The figures of one change, from scores [n] before and after it; `tokens` are its factor and the truncated share."""
    difference = np.asarray(after, np.float64) - before
    return Moved(
        name=name,
        reviews=len(before),
        tokens_factor=tokens[0],
        truncated=tokens[1],
        mean_move=float(np.mean(np.abs(difference))),
        p95_move=float(np.percentile(np.abs(difference), 95)),
        mean_shift=float(np.mean(difference)),
        flipped=float(np.mean((before >= threshold) != (after >= threshold))),
        accuracy_before=evaluation.accuracy(before, positive, threshold),
        accuracy_after=evaluation.accuracy(after, positive, threshold),
        accuracy_at_half_before=evaluation.accuracy(before, positive, HALF),
        accuracy_at_half_after=evaluation.accuracy(after, positive, HALF),
    )


def special(scorer: Scorer, name: str, text: str) -> Special:
    """What becomes of one text."""
    rows = scorer.encode([text])
    score = float(scorer.score(rows)[0])
    tokens = len(rows[0])
    return Special(name, tokens, tokens == scorer.card.max_tokens, score, answer(scorer, text, score))


def answer(scorer: Scorer, text: str, score: float) -> str:
    """The worker's answer to a record that is this text: its own decoder says whether the model is asked at all."""
    try:
        decode_review(text.encode(), max_bytes=MAX_BYTES)
    except CodecError as error:
        return f"dead letter `{error.reason}`"
    return scorer.card.labels[score >= scorer.card.threshold]


def positives(examples: Sequence[Example]) -> npt.NDArray[np.bool_]:
    """What the authors meant, [n]."""
    return np.array([example.positive for example in examples])


Anything = TypeVar("Anything")


def rounded(value: Anything) -> Anything:
    """The same with every float rounded, however deep it lies."""
    plain: Any = msgspec.to_builtins(value)
    return msgspec.convert(_rounded(plain), type(value))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value
