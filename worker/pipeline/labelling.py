"""Scores become labels. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from protos.codecs import ReviewMessage
from protos.model_card import UNCERTAIN
from worker.ports import ServedModel
from worker.records import Labelled, Record


def probabilities(outputs: Sequence[float], *, logits: bool) -> Sequence[float]:
    """A row's outputs as scores in [0, 1]: unchanged, or through a sigmoid (one logit) or softmax (several)."""
    if not logits:
        return outputs
    if len(outputs) == 1:
        return (_sigmoid(outputs[0]),)
    highest = max(outputs)
    exponentials = [math.exp(output - highest) for output in outputs]
    total = sum(exponentials)
    return [exponential / total for exponential in exponentials]


def choose(scores: Sequence[float], served: ServedModel) -> tuple[str, float]:
    """The label and its score. One score: `uncertain` in the model's range of that name, otherwise the second label from
    the threshold on; and the score itself, whichever the label. Several: the label of the highest, the first of equals."""
    if len(scores) == 1:
        score = scores[0]
        if served.uncertain and served.uncertain[0] <= score < served.uncertain[1]:
            return UNCERTAIN, score
        return served.labels[score >= served.threshold], score
    best = max(range(len(scores)), key=scores.__getitem__)
    return served.labels[best], scores[best]


def label(
    record: Record,
    review: ReviewMessage,
    scores: Sequence[float],
    served: ServedModel,
    *,
    tokens: int,
    truncated: bool,
    all_scores: bool,
) -> Labelled:
    """The answer to one review. `scores` are probabilities; `tokens` and `truncated` are its row's (see ports.Rows)."""
    name, score = choose(scores, served)
    return Labelled(
        record=record,
        review_id=review.id,
        label=name,
        score=score,
        model_name=served.name,
        model_version=served.version,
        tokens=tokens,
        truncated=truncated,
        labels=served.labels if all_scores else (),
        scores=per_label(scores) if all_scores else (),
    )


def per_label(scores: Sequence[float]) -> Sequence[float]:
    """One score per label: a single output's score belongs to the second label."""
    return (1.0 - scores[0], scores[0]) if len(scores) == 1 else scores


def _sigmoid(logit: float) -> float:
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))
