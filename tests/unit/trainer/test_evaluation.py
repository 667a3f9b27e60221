from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import evaluation

SCORES = np.array([0.05, 0.15, 0.55, 0.65, 0.95, 1.0])
POSITIVE = np.array([False, True, True, False, True, True])
pairs = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.6, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60
)


def test_accuracy_counts_a_score_at_the_threshold_as_positive() -> None:
    assert evaluation.accuracy(np.array([0.6, 0.599]), np.array([True, False]), 0.6) == 1.0
    assert evaluation.accuracy(SCORES, POSITIVE, 0.6) == 3 / 6
    assert evaluation.accuracy(SCORES, POSITIVE, 0.5) == 4 / 6


def test_confusion() -> None:
    counts = evaluation.confusion(SCORES, POSITIVE, 0.6)

    assert counts == evaluation.Confusion(true_positive=2, false_positive=1, true_negative=1, false_negative=2)


@given(pairs)
def test_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[float, bool]]) -> None:
    good = [score for score, positive in rows if positive]
    bad = [score for score, positive in rows if not positive]
    found = evaluation.auc(np.array([score for score, _ in rows]), np.array([positive for _, positive in rows]))

    if not good or not bad:
        assert math.isnan(found)
    else:
        wins = sum((a > b) + (a == b) / 2 for a in good for b in bad)
        assert found == pytest.approx(wins / (len(good) * len(bad)))


def test_log_loss_of_a_certain_error_is_large_but_finite() -> None:
    assert evaluation.log_loss(np.array([0.5, 0.5]), np.array([True, False])) == pytest.approx(math.log(2))
    assert 10 < evaluation.log_loss(np.array([0.0]), np.array([True])) < 20


@given(pairs)
def test_calibration_counts_each_review_once(rows: list[tuple[float, bool]]) -> None:
    scores, positive = np.array([score for score, _ in rows]), np.array([positive for _, positive in rows])
    bins = evaluation.calibration(scores, positive)

    assert sum(each.count for each in bins) == len(rows)
    assert sum(each.count * each.mean_score for each in bins) == pytest.approx(scores.sum())
    assert sum(each.count * each.positive_share for each in bins) == pytest.approx(positive.sum())


def test_calibration_error_by_hand() -> None:
    scores = np.array([0.9, 0.9, 0.9, 0.9, 0.2, 0.2])
    positive = np.array([True, True, True, False, False, False])

    assert evaluation.calibration_error(evaluation.calibration(scores, positive)) == pytest.approx(
        (4 * abs(0.9 - 0.75) + 2 * 0.2) / 6
    )
