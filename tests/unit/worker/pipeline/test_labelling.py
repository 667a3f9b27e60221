from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.codecs import ReviewMessage
from worker.pipeline.labelling import choose, label, probabilities
from worker.records import Labelled, Record
from worker.testing import served

REVIEW = ReviewMessage("r", "text")
RECORD = Record("reviews", 0, 1, 0, None, b"text")


@pytest.mark.parametrize(
    ("score", "expected"), [(0.6, "positive"), (0.5999, "negative"), (1.0, "positive"), (0.0, "negative")]
)
def test_a_score_at_the_threshold_is_the_second_label(score: float, expected: str) -> None:
    assert choose([score], served()) == (expected, score)


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.3999, "negative"), (0.4, "uncertain"), (0.6999, "uncertain"), (0.7, "positive")],
)
def test_a_score_in_the_range_of_the_card_is_uncertain(score: float, expected: str) -> None:
    unsure = msgspec.structs.replace(served(), uncertain=(0.4, 0.7))
    assert choose([score], unsure) == (expected, score)
    assert choose([0.5, 0.45, 0.05], msgspec.structs.replace(unsure, labels=("a", "b", "c"))) == ("a", 0.5)


def test_of_several_scores_the_highest_wins_and_the_first_of_equals() -> None:
    three = served(labels=("a", "b", "c"))
    assert choose([0.2, 0.5, 0.3], three) == ("b", 0.5)
    assert choose([0.4, 0.4, 0.2], three) == ("a", 0.4)


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=20))
def test_logits_become_probabilities_without_overflow(logits: list[float]) -> None:
    scores = probabilities(logits, logits=True)
    assert all(0.0 <= score <= 1.0 for score in scores)
    if len(scores) > 1:
        assert math.isclose(sum(scores), 1.0, abs_tol=1e-9)
    assert probabilities(logits, logits=False) is logits


def labelled(*, all_scores: bool) -> Labelled:
    return label(RECORD, REVIEW, [0.75], served(), tokens=3, truncated=False, all_scores=all_scores)


def test_every_score_is_given_on_request() -> None:
    answer = labelled(all_scores=True)
    assert dict(zip(answer.labels, answer.scores, strict=True)) == {"negative": 0.25, "positive": 0.75}
    assert labelled(all_scores=False).scores == ()
