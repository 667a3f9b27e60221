"""The training report: one HTML file that needs nothing beside it."""

from __future__ import annotations

from html import escape

from trainer.evaluation import Flags, Floats
from trainer.figures import Figures, Sentence
from trainer.report import charts
from trainer.report.page import PAGE
from worker.look import STYLESHEET


def html(figures: Figures, scores: Floats, positive: Flags) -> bytes:
    """The report. `scores` and `positive`, both [n], are the test part's."""
    test = figures.test
    cells = {
        "style": STYLESHEET,
        "accuracy": f"{test.accuracy:.1%}",
        "half": f"{test.accuracy_at_half:.1%}",
        "threshold": f"{test.threshold:g}",
        "auc": f"{test.auc:.3f}",
        "log_loss": f"{test.log_loss:.3f}",
        "calibration_error": f"{test.calibration_error:.1%}",
        "reviews": f"{test.reviews:,}",
        "created": figures.created[:16].replace("T", " "),
        "sentences": "".join(map(_sentence, [*figures.sentences, *figures.hard_sentences])),
        "charts": "".join(_chart(drawing, text) for drawing, text in _charts(figures, scores, positive)),
        "facts": "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(figures)),
    }
    return PAGE.substitute(cells).encode()


def _charts(figures: Figures, scores: Floats, positive: Flags) -> list[tuple[str, str]]:
    """Each drawing with the sentence that says what it shows."""
    history, test = figures.history, figures.test
    best = history.best_epoch - 1
    clear = (test.calibration[0].count + test.calibration[-1].count) / test.reviews
    loss = (
        f"The loss on the validation part was lowest after epoch {history.best_epoch} "
        f"({history.validation_loss[best]:.3f}); those weights were kept. On the training part the loss is higher, because "
        "its reviews are cropped and spelled again in every epoch."
    )
    accuracy = (
        f"The kept epoch labels {history.validation_accuracy[best]:.1%} of the validation part as its authors meant, "
        "counted at a score of 0.5."
    )
    confusion = (
        f"At the threshold {test.threshold:g}, {test.confusion.false_positive:,} negative test reviews were taken for "
        f"positive and {test.confusion.false_negative:,} positive ones for negative. Percentages are shares of a row."
    )
    calibration = (
        f"How far a score can be read as a probability: on average it is {test.calibration_error:.1%} away from the share "
        "of reviews that really are positive. Larger dots stand for more reviews."
    )
    histogram = f"{clear:.0%} of the test reviews are clear to the model: they score below 0.1 or above 0.9."
    return [
        (charts.loss_curve(history), loss),
        (charts.accuracy_curve(history), accuracy),
        (charts.confusion_matrix(test.confusion), confusion),
        (charts.calibration(figures), calibration),
        (charts.score_histogram(scores, positive, test.threshold), histogram),
    ]


def _chart(drawing: str, text: str) -> str:
    return f"<figure>{drawing}<figcaption>{escape(text)}</figcaption></figure>"


def _sentence(sentence: Sentence) -> str:
    pieces = "".join(f"<span>{escape(subword)}</span>" for subword in sentence.subwords)
    verdict = "" if sentence.right else f" <b>wrong, it is {escape(sentence.expected)}</b>"
    return (
        f"<tr><td>{escape(sentence.text)}<div class=pieces>{pieces}</div></td><td class=number>{sentence.score:.3f}</td>"
        f"<td class={escape(sentence.label)}>{escape(sentence.label)}{verdict}</td></tr>"
    )


def _facts(figures: Figures) -> list[tuple[str, str]]:
    data = figures.data
    return [
        ("data", data.source),
        ("data digest", data.digest),
        ("split", f"{data.train:,} reviews to train, {data.validation:,} to validate, {data.test:,} to test"),
        ("vocabulary", f"{figures.vocabulary_size:,} ids, {figures.vocabulary_digest}"),
        ("seed", f"{figures.seed}; the same seed on the same machine gives the same figures"),
        ("epochs", f"{len(figures.history.loss)} of at most {figures.epochs}"),
        (
            "Keras' own scores",
            f"differ by {figures.largest_difference_from_keras:.1e} at most from the exported model's",
        ),
        ("libraries", ", ".join(f"{name} {version}" for name, version in figures.libraries.items())),
        ("CPU time", ", ".join(f"{what} {seconds:.0f} s" for what, seconds in figures.cpu_seconds.items())),
    ]
