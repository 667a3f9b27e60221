"""The quality report as Markdown, from nothing but the figures kept in `quality.json`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from string import Template

from trainer.quality.figures import HALF, AtThreshold, Domain, Length, Moved, Report, Special

MOST = 5
"""So many changes are told again as those that move the score most."""
PAGE = Template(
    """# Quality of the prediction

`make quality` writes this page, and the same figures as [quality.json](quality.json); edit neither. A test in
`make test` measures the model again and fails where it has become worse. What was tried to make the model better, and
what did not help: [What was tried](README.md#what-was-tried).

$model

## How good it is

$domains

± is one standard error. AUC is the chance that a positive review scores above a negative one. The log loss is what the
model was fitted to make small. The calibration error is the expected one: scores are put into ten equal ranges, and in each
the mean score is held against the share of reviews that really are positive. None of these three depends on a threshold.

$threshold

$unsure

The Rotten Tomatoes sentences are single sentences by critics, in lower case and with spaces around their punctuation; none
was used in training. They show what is left of the quality on short texts from elsewhere.

## By length

In a row of few reviews the calibration error is large by chance alone.

$lengths

## What moves the score most

$most

$why

## Every change

Each change is made to every test review. The figures of a row are of those reviews that it changes:

- tokens: after the change, for each before it
- cut: the share that reaches the limit of $max_tokens tokens; the worker's result then says `truncated`
- move: how far the score moves, up or down, on average and for the 95th percentile
- shift: how far it moves on average when up counts against down
- flips: the share of labels that change at the threshold $served
- accuracy: before → after

$changes

## Texts that are no reviews

The score is what the bare model gives. The answer is what the service makes of a record that is just this text: an empty one
and one that is too large never reach the model.

$special
"""
)


AS_IT_IS = """\
The model sees a review as the mean of its subwords. A text that is spelled as no training review was is cut into more and
smaller subwords, down to single bytes, which say little or the wrong thing; and what comes again and again, such as tags or
spaces, outweighs the words. This version's card names no normaliser, so its texts are encoded as they are. Texts in
capitals, in HTML (`<br />` apart) or with runs of spaces are best brought to plain text before they are pushed."""
NORMALISED = """\
The model sees a review as the mean of its subwords. Before a text is encoded, in training as in the worker, it is
normalised by `{name}`, which the model's card names: HTML, capitals, accents, punctuation and white space leave no trace in
it, so that they cannot move a score; a tag that another one tears apart can. What is left is spelling. A word that no
training review has is cut into smaller subwords, which say less, or something else."""


def markdown(report: Report) -> str:
    """The whole page."""
    return PAGE.substitute(
        model=_model(report),
        domains=_domains(report),
        threshold=_threshold(report),
        unsure=_unsure(report),
        why=NORMALISED.format(name=report.normaliser) if report.normaliser else AS_IT_IS,
        lengths="\n\n".join(f"{domain.name}:\n\n{_lengths(domain, report.threshold)}" for domain in report.domains),
        most=_most(report.moved),
        max_tokens=f"{report.max_tokens:,}",
        served=f"{report.threshold:g}",
        changes=_changes(report),
        special=_special(report.special),
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int] = (0,)) -> str:
    """A Markdown table; the columns numbered in `words` are to the left, all others to the right."""
    lines = [heads, ["---" if n in words else "---:" for n in range(len(heads))], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _model(report: Report) -> str:
    trained = "not told by this version" if report.trained_on is None else f"on {report.trained_on:,} reviews"
    held_out = "no" if report.held_out else "perhaps: this version does not say that it was trained on just this split"
    facts = [
        ("trained", trained if report.seed is None else f"{trained}, with seed {report.seed}"),
        ("data", report.data),
        ("data digest", f"`{report.data_digest}`"),
        ("has seen the test part", held_out),
        ("vocabulary digest", f"`{report.vocabulary_digest}`"),
        ("normaliser", f"`{report.normaliser}`" if report.normaliser else "none"),
        ("measured with", ", ".join(f"{name} {version}" for name, version in report.libraries.items())),
    ]
    return table(("the model", ""), facts, words=(0, 1))


def _domains(report: Report) -> str:
    parts = [domain.all for domain in report.domains]
    names = [f"{each.threshold:g}" for each in parts[0].at]
    rows = [["reviews", *(f"{part.reviews:,}" for part in parts)]]
    for n, name in enumerate(names):
        rows.append([f"accuracy at {name}", *(_accuracy(part.at[n].accuracy, part.reviews) for part in parts)])
    rows.append(["AUC", *(f"{part.auc:.3f}" for part in parts)])
    rows.append(["log loss", *(f"{part.log_loss:.3f}" for part in parts)])
    rows.append(["calibration error", *(f"{part.calibration_error:.3f}" for part in parts)])
    for n, name in enumerate(names):
        wrong = [part.at[n].confusion for part in parts]
        rows.append([f"negative taken for positive at {name}", *(f"{each.false_positive:,}" for each in wrong)])
        rows.append([f"positive taken for negative at {name}", *(f"{each.false_negative:,}" for each in wrong)])
    return table(["", *(domain.name for domain in report.domains)], rows)


def _threshold(report: Report) -> str:
    """What the served threshold costs and gains."""
    part = report.domains[0].all
    by_threshold = {each.threshold: each.confusion for each in part.at}
    half, served = by_threshold[HALF], by_threshold[report.threshold]
    negatives = served.false_positive - half.false_positive
    positives = served.false_negative - half.false_negative
    return (
        f"The worker says positive from {report.threshold:g} on, the threshold in the model's card (its `--threshold` sets\n"
        f"another). Compared with 0.5, {_more(negatives)} negative test reviews are taken for positive, and\n"
        f"{_more(positives)} positive ones for negative."
    )


def _unsure(report: Report) -> str:
    """The curve of the threshold, and what a range of uncertain scores would cover."""
    domain = report.domains[0]
    curve = table(
        ("threshold", "accuracy", "labelled positive", "of these right", "labelled negative", "of these right"),
        [_at(each, domain.all.reviews) for each in domain.curve],
        words=(),
    )
    heads = ["uncertain from, to"]
    for each in report.domains:
        heads += [f"{each.name}: uncertain", "accuracy of the rest"]
    ranges = zip(*(each.unsure for each in report.domains), strict=True)
    rows = [
        [
            f"{each[0].least:g}, {each[0].most:g}",
            *(cell for of in each for cell in (f"{of.share:.1%}", f"{of.accuracy:.1%}")),
        ]
        for each in ranges
    ]
    return (
        "What another threshold would do, on the test reviews. A higher one makes a positive label more certain and a\n"
        f"negative one less; the accuracy is flat around its highest point.\n\n{curve}\n\n"
        "Where a wrong label costs more than none, `inferry-trainer train --uncertain FROM TO` writes a range into the\n"
        "card: a review whose score is in it gets the label `uncertain`. No card has one unless it is asked for.\n\n"
        f"{table(heads, rows)}"
    )


def _at(at: AtThreshold, reviews: int) -> Sequence[str]:
    found = at.confusion
    positive, negative = found.true_positive + found.false_positive, found.true_negative + found.false_negative
    return (
        f"{at.threshold:g}",
        _accuracy(at.accuracy, reviews),
        f"{positive / reviews:.1%}",
        _share(found.true_positive, positive),
        f"{negative / reviews:.1%}",
        _share(found.true_negative, negative),
    )


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "—"


def _more(count: int) -> str:
    return f"{abs(count):,} {'fewer' if count < 0 else 'more'}"


def _lengths(domain: Domain, threshold: float) -> str:
    heads = ("tokens", "reviews", f"accuracy at {threshold:g}", "accuracy at 0.5", "log loss", "calibration error")
    return table(heads, map(_length, domain.lengths))


def _length(length: Length) -> Sequence[str]:
    tokens = f"{length.least_tokens} or more" if length.most_tokens is None else f"up to {length.most_tokens}"
    if length.least_tokens and length.most_tokens is not None:
        tokens = f"{length.least_tokens} to {length.most_tokens}"
    return (
        tokens,
        f"{length.reviews:,}",
        _accuracy(length.accuracy, length.reviews),
        _accuracy(length.accuracy_at_half, length.reviews),
        f"{length.log_loss:.3f}",
        f"{length.calibration_error:.3f}",
    )


def _most(moved: Sequence[Moved]) -> str:
    most = sorted(moved, key=lambda each: each.mean_move, reverse=True)[:MOST]
    return "\n".join(
        f"- {each.name}: scores move by {each.mean_move:.2f} on average, {each.flipped:.0%} of the labels flip, accuracy "
        f"goes\n  from {each.accuracy_before:.1%} to {each.accuracy_after:.1%}; there are {each.tokens_factor:.1f} tokens "
        "for each before."
        for each in most
    )


def _changes(report: Report) -> str:
    heads = ("change", "reviews", "tokens", "cut", "move, mean", "move, p95", "shift", "flips")
    accuracies = (f"accuracy at {report.threshold:g}", "accuracy at 0.5")
    return table((*heads, *accuracies), map(_moved, report.moved))


def _moved(moved: Moved) -> Sequence[str]:
    return (
        moved.name,
        f"{moved.reviews:,}",
        f"{moved.tokens_factor:.2f}",
        f"{moved.truncated:.1%}",
        f"{moved.mean_move:.3f}",
        f"{moved.p95_move:.3f}",
        f"{round(moved.mean_shift, 3) + 0.0:+.3f}",  # + 0.0 makes -0.0 a plain 0
        f"{moved.flipped:.1%}",
        f"{moved.accuracy_before:.1%} → {moved.accuracy_after:.1%}",
        f"{moved.accuracy_at_half_before:.1%} → {moved.accuracy_at_half_after:.1%}",
    )


def _special(special: Sequence[Special]) -> str:
    rows = [
        (each.name, f"{each.tokens:,}{', cut' if each.truncated else ''}", f"{each.score:.3f}", each.answer)
        for each in special
    ]
    return table(("text", "tokens", "score", "answer"), rows, words=(0, 3))


def _accuracy(accuracy: float, reviews: int) -> str:
    """With one standard error, in percent."""
    return f"{accuracy:.1%} ± {100 * math.sqrt(accuracy * (1 - accuracy) / reviews):.1f}"
