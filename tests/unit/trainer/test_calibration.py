"""Calibration: the slope and shift that are put in, found again; the order of the scores and the graph stay."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.models import tiny_vocabulary, tiny_weights
from trainer import calibration, evaluation
from trainer import model as keras_model
from trainer.figures import Calibration

RANDOM = np.random.default_rng(1)
TRUE = RANDOM.normal(0, 2, 20_000)
POSITIVE = RANDOM.random(20_000) < 1 / (1 + np.exp(-TRUE))


def error(logits: calibration.Logits) -> float:
    return evaluation.calibration_error(evaluation.calibration(1 / (1 + np.exp(-logits)), POSITIVE))


def test_a_model_that_is_too_sure_and_leans_to_one_side_is_put_right() -> None:
    told = 3 * TRUE - 1

    found = calibration.fit(told, POSITIVE)

    assert found.slope == pytest.approx(1 / 3, rel=0.05)
    assert found.shift == pytest.approx(1 / 3, abs=0.05)
    assert error(told) > 0.05
    assert error(found.slope * told + found.shift) < 0.02


def test_a_model_that_is_right_is_left_nearly_as_it_is() -> None:
    found = calibration.fit(TRUE, POSITIVE)
    assert (found.slope, found.shift) == (pytest.approx(1, abs=0.05), pytest.approx(0, abs=0.05))


@pytest.mark.parametrize(
    ("logits", "positive"),
    [
        (np.zeros(6), np.array([True, False] * 3)),
        (np.array([-1.0, 1.0, -1.0, 1.0]), np.array([True, False, True, False])),
        (np.array([-1.0, 1.0, -1.0, 1.0]), np.array([True, False, True, True])),
    ],
    ids=["all alike", "the wrong way round", "with a mistake"],
)
def test_the_order_of_the_scores_never_changes(logits: calibration.Logits, positive: evaluation.Flags) -> None:
    found = calibration.fit(logits, positive)
    assert found.slope > 0
    assert np.isfinite([found.slope, found.shift]).all()


def test_scores_that_tell_both_apart_without_a_mistake_stay_finite() -> None:
    found = calibration.fit(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    assert np.isfinite([found.slope, found.shift]).all()


def test_it_goes_into_the_last_layer_and_the_graph_stays() -> None:
    vocabulary = tiny_vocabulary()
    model = keras_model.build(vocabulary.size)
    model.set_weights(tiny_weights(vocabulary))
    rows = [np.array([1, 2, 3], np.int32), np.array([30], np.int32), np.array([], np.int32)]
    before = calibration.logits(model.get_weights(), rows)
    np.testing.assert_allclose(1 / (1 + np.exp(-before[:2])), keras_model.predict(model, rows[:2]), atol=1e-6)

    calibration.fold(model, Calibration(slope=0.5, shift=-0.25))

    after = calibration.logits(model.get_weights(), rows)
    np.testing.assert_allclose(after, 0.5 * before - 0.25, atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-after[:2])), keras_model.predict(model, rows[:2]), atol=1e-6)
