"""Makes a score mean what it says: of the reviews that score 0.8, eight in ten are positive.

Platt's way (1999): a slope and a shift of the logit, fitted on reviews that the model was not fitted on, here the validation
part. Both go into the last layer's weights, so that the exported graph is the same as without; a slope alone would be a
temperature. With a slope above 0 the order of the scores stays, and so does the AUC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.evaluation import Flags
from trainer.figures import Calibration

Logits = npt.NDArray[np.float64]
STEPS = 50
"""Newton's method needs fewer than ten; the loss is convex."""
LEAST_STEP = 1e-9
RIDGE = 1e-9
"""Keeps the Hessian invertible where every review scores the same."""


def logits(weights: Sequence[npt.ArrayLike], rows: Sequence[npt.NDArray[np.int32]]) -> Logits:
    """What the model's weights give for rows of ids before the sigmoid, [n]. In float64, where no score is so near to 0 or
    1 that its logit is lost."""
    embedding, hidden, hidden_bias, output, output_bias = (np.asarray(each, np.float64) for each in weights)
    table = embedding @ hidden
    means = np.array([table[row].mean(axis=0) if len(row) else np.zeros(len(hidden_bias)) for row in rows])
    found: Logits = (np.maximum(means + hidden_bias, 0) @ output + output_bias)[:, 0]
    return found


def fit(found: Logits, positive: Flags) -> Calibration:
    """The slope and shift with the lowest log loss, for logits [n] whose authors meant `positive` [n].

    The slope stays above 0. Where no slope is too steep, since the logits tell both kinds apart without a mistake, it is
    what so many steps lead to."""
    inputs = np.stack([found, np.ones_like(found)], axis=1)
    chosen = np.array([1.0, 0.0])
    for _ in range(STEPS):
        scores = _sigmoid(inputs @ chosen)
        gradient = inputs.T @ (scores - positive) / len(found)
        hessian = (inputs.T * (scores * (1 - scores))) @ inputs / len(found) + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while not _is_better(
            chosen - step, chosen, inputs, positive
        ):  # too far: Newton's method overshoots where it is steep
            step = step / 2
            if np.abs(step).max() < LEAST_STEP:
                return Calibration(*map(float, chosen))
        chosen = chosen - step
    return Calibration(*map(float, chosen))


def fold(model: Any, calibration: Calibration) -> None:
    """Writes the calibration into the weights of a Keras model's last layer."""
    *others, output, output_bias = model.get_weights()
    model.set_weights([*others, output * calibration.slope, output_bias * calibration.slope + calibration.shift])


def _is_better(new: Logits, old: Logits, inputs: Logits, positive: Flags) -> bool:
    """Whether these two numbers are allowed and give a lower loss."""
    return bool(new[0] > 0) and _loss(inputs @ new, positive) < _loss(inputs @ old, positive)


def _loss(logit: Logits, positive: Flags) -> float:
    """Binary cross-entropy in nats, without overflow."""
    return float(np.mean(np.logaddexp(0, logit) - positive * logit))


def _sigmoid(logit: Logits) -> Logits:
    found: Logits = np.exp(-np.logaddexp(0, -logit))
    return found
