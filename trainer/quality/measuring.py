"""How good a version is and what moves its scores: measures everything that `inferry-trainer quality` writes down.

Figures are rounded, so that the last bits of a machine's arithmetic make no difference to the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from protos.codecs import CodecError, decode_review
from protos.model_card import Card
from trainer import evaluation
from trainer.data import Example, Reviews
from trainer.evaluation import Flags, Floats
from trainer.figures import Figures, libraries
from trainer.quality.figures import HALF, AtThreshold, Domain, Length, Moved, Part, Report, Special, Unsure
from trainer.quality.perturbations import PERTURBATIONS, Perturbation
from trainer.scoring import Scorer
from worker.settings import Settings

DIGITS = 5
LENGTHS = ((0, 50), (51, 150), (151, 300), (301, 600), (601, None))
"""Tokens of a review, from and to, both included."""
MAX_BYTES: int = Settings.model_fields["max_review_bytes"].default
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
UNSURE = ((0.4, 0.6), (0.3, 0.7), (0.2, 0.8), (0.1, 0.9))
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
        threshold=scorer.card.threshold,
        max_tokens=scorer.card.max_tokens,
        normaliser=scorer.card.normaliser,
        libraries=libraries(),
        domains=domains,
        moved=moves(scorer, reviews.test, PERTURBATIONS, on_change),
        special=[special(scorer, name, text) for name, text in SPECIAL_TEXTS],
    )
    return rounded(report)


@dataclass(frozen=True)
class Answers:
    """What the model says of n texts."""

    scores: Floats
    tokens: npt.NDArray[np.int_]
    """Of each text, after it was cut at the limit."""

    def of(self, chosen: Flags) -> Answers:
        """Those of the texts that are chosen, [n]."""
        return Answers(self.scores[chosen], self.tokens[chosen])


def ask(scorer: Scorer, texts: Iterable[str]) -> Answers:
    """Encodes and scores texts."""
    rows = scorer.encode(texts)
    return Answers(scorer.score(rows), np.array([len(row) for row in rows]))


def domain(scorer: Scorer, name: str, examples: Sequence[Example]) -> Domain:
    """The figures of one set of reviews."""
    answers, positive = ask(scorer, (example.text for example in examples)), positives(examples)
    threshold = scorer.card.threshold
    lengths = []
    for least, most in LENGTHS:
        inside = (answers.tokens >= least) & (answers.tokens <= (most or scorer.card.max_tokens))
        if inside.any():
            lengths.append(length(answers.scores[inside], positive[inside], threshold, least, most))
    scores = answers.scores
    curve = [at_threshold(scores, positive, each) for each in THRESHOLDS]
    unsure_of = [unsure(scores, positive, least, most) for least, most in UNSURE]
    return Domain(name, part(scores, positive, threshold), curve, unsure_of, lengths)


def at_threshold(scores: Floats, positive: Flags, threshold: float) -> AtThreshold:
    """The labels of scores [n] at one threshold."""
    return AtThreshold(
        threshold, evaluation.accuracy(scores, positive, threshold), evaluation.confusion(scores, positive, threshold)
    )


def unsure(scores: Floats, positive: Flags, least: float, most: float) -> Unsure:
    """What a range of uncertain scores covers, and how good the other labels are. Where it covers all, none is wrong."""
    sure = (scores < least) | (scores >= most)
    accuracy = evaluation.accuracy(scores[sure], positive[sure], most) if sure.any() else 1.0
    return Unsure(least, most, float(np.mean(~sure)), accuracy)


def part(scores: Floats, positive: Flags, threshold: float) -> Part:
    """The figures of scores [n] whose authors meant `positive` [n]."""
    found = evaluation.quality(scores, positive, threshold)
    at = [at_threshold(scores, positive, each) for each in sorted({HALF, threshold})]
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
    before, positive = ask(scorer, texts), positives(examples)
    found = []
    for each in changes:
        on_change(each.name)
        changed_texts = [each.change(text) for text in texts]
        changed = np.array([old != new for old, new in zip(texts, changed_texts, strict=True)])
        if changed.any():
            after = ask(scorer, compress(changed_texts, changed))
            found.append(moved(each.name, before.of(changed), after, positive[changed], scorer.card))
    return found


def moved(name: str, before: Answers, after: Answers, positive: Flags, card: Card) -> Moved:
    """The figures of one change to n texts, from the answers before and after it."""
    difference = np.asarray(after.scores, np.float64) - before.scores
    threshold = card.threshold
    return Moved(
        name=name,
        reviews=len(before.scores),
        tokens_factor=float(after.tokens.sum() / before.tokens.sum()),
        truncated=float(np.mean(after.tokens >= card.max_tokens)),
        mean_move=float(np.mean(np.abs(difference))),
        p95_move=float(np.percentile(np.abs(difference), 95)),
        mean_shift=float(np.mean(difference)),
        flipped=float(np.mean((before.scores >= threshold) != (after.scores >= threshold))),
        accuracy_before=evaluation.accuracy(before.scores, positive, threshold),
        accuracy_after=evaluation.accuracy(after.scores, positive, threshold),
        accuracy_at_half_before=evaluation.accuracy(before.scores, positive, HALF),
        accuracy_at_half_after=evaluation.accuracy(after.scores, positive, HALF),
    )


def special(scorer: Scorer, name: str, text: str) -> Special:
    """What becomes of one text."""
    found = ask(scorer, [text])
    score, tokens = float(found.scores[0]), int(found.tokens[0])
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
