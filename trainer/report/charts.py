"""The report's charts, each as one inline SVG. Drawn without pyplot, so nothing global is touched."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from trainer.evaluation import Confusion, Flags, Floats
from trainer.figures import Figures, History

TRAIN, HELD_OUT, EDGE = "#9aa5b1", "#1f5fa8", "#8a96a3"
NEGATIVE, POSITIVE = "#c2583b", "#2a7f78"
INK, FAINT = "#22303c", "#dfe4e8"
ON_PALE = "#22303d"
"""Text on a pale colour: the same in light and dark."""
VARIABLES = {INK: "--ink", FAINT: "--line", EDGE: "--grey", HELD_OUT: "--blue", NEGATIVE: "--red", POSITIVE: "--green"}
"""Colours that a page's stylesheet sets, in light and dark."""
WIDE, SQUARE, FULL = (6.4, 3.6), (4.4, 3.6), (11.0, 3.2)
HISTOGRAM_BINS = 40
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": EDGE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "inferry",  # equal figures give equal files
}


def loss_curve(history: History) -> str:
    """Loss by epoch, with the epoch that was kept."""
    return _curve(history.loss, history.validation_loss, history.best_epoch, "loss (binary cross-entropy)")


def accuracy_curve(history: History) -> str:
    """Accuracy at 0.5 by epoch, with the epoch that was kept."""
    return _curve(history.accuracy, history.validation_accuracy, history.best_epoch, "accuracy", percent=True)


def _curve(train: list[float], validation: list[float], best_epoch: int, what: str, *, percent: bool = False) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(WIDE)
        epochs = range(1, len(train) + 1)
        axes.plot(epochs, train, color=TRAIN, marker="o", markersize=4, label="training part, while it is fitted")
        axes.plot(epochs, validation, color=HELD_OUT, marker="o", markersize=4, label="validation part")
        axes.axvline(best_epoch, color=INK, linewidth=1, linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set(xlabel="epoch", ylabel=what, xticks=list(epochs))
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend()
        return _svg(figure)


def confusion_matrix(counts: Confusion) -> str:
    """Two by two: the author's meaning by the label given."""
    table = np.array([[counts.true_negative, counts.false_positive], [counts.false_negative, counts.true_positive]])
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = _canvas(SQUARE)
        axes.imshow(table / table.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(table):
            share = count / table[row].sum()
            colour = "white" if share > 0.5 else ON_PALE
            axes.text(column, row, f"{count:,}\n{share:.1%}", ha="center", va="center", color=colour, fontsize=13)
        names = ["negative", "positive"]
        axes.set(xticks=[0, 1], xticklabels=names, yticks=[0, 1], yticklabels=names)
        axes.set(xlabel="label given", ylabel="what the author meant")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return _svg(figure)


def calibration(figures: Figures) -> str:
    """Share of positive reviews by score, a dot for each tenth, larger where there are more reviews."""
    bins = [each for each in figures.test.calibration if each.count]
    most = max(each.count for each in bins)
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(SQUARE)
        axes.plot([0, 1], [0, 1], color=TRAIN, linestyle="--", linewidth=1, label="perfectly calibrated")
        scores, shares = [each.mean_score for each in bins], [each.positive_share for each in bins]
        axes.plot(scores, shares, color=HELD_OUT, linewidth=1)
        sizes = [20 + 160 * each.count / most for each in bins]
        axes.scatter(scores, shares, s=sizes, color=HELD_OUT, label="test reviews, by tenths", zorder=3)
        axes.set(xlabel="score", ylabel="share that is positive", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(loc="upper left")
        return _svg(figure)


def score_histogram(scores: Floats, positive: Flags, threshold: float) -> str:
    """How many test reviews got which score, by what their authors meant."""
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(FULL)
        edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
        for meant, colour, name in (
            (~positive, NEGATIVE, "negative reviews"),
            (positive, POSITIVE, "positive reviews"),
        ):
            axes.hist(scores[meant], bins=edges, color=colour, alpha=0.65, label=name)  # type: ignore[arg-type]  # a list of edges
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=":", label=f"threshold {threshold:g}")
        axes.set(xlabel="score", ylabel="reviews", xlim=(0, 1))
        axes.legend(loc="upper left", bbox_to_anchor=(0.3, 1))
        return _svg(figure)


def _canvas(size_inches: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size_inches, layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    """The drawing without the XML prologue, which HTML does not want, in the colours of the page it stands on."""
    buffer = io.StringIO()
    metadata: dict[str, Any] = {"Date": None}
    figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    drawn = buffer.getvalue()
    for colour, variable in VARIABLES.items():
        drawn = drawn.replace(f": {colour}", f": var({variable})")
    return drawn[drawn.index("<svg") :]
