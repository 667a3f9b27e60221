"""What the demo prints at its end."""

from __future__ import annotations

import random
from collections.abc import Iterable, Set
from pathlib import Path

from rich.table import Table
from rich.text import Text

from deploy.local.running import Description
from deploy.local.terminal import console
from deploy.local.trial import Accuracy, Trial, percentile
from producer.inputs import Entry
from producer.terminal import safe

SAMPLES = 10
OTHER_COLUMNS = 40
"""Characters of a line that are not the review's."""
PERCENTILES = (50, 95, 99)


def show(burst: Trial, calm: Trial, examples: Trial, held_out: Set[str]) -> None:
    """A sample of the results and the figures. `held_out`: texts the model was not trained on."""
    console.print(_sample(burst, examples))
    console.print()
    console.print(_figures(burst, calm, held_out))
    console.print("Latencies run from handing a review to the producer to having its result.\n", style="dim")


def where_next(where: Description, report: Path | None) -> None:
    """What to look at and to try."""
    console.print(
        f"The worker's own figures were at {where.status} while it ran.\n"
        + (f"How the model was trained, and how good it is: {report}\n" if report else "")
        + "make up keeps a stack running and prints its addresses. Then, to push a review of your own:\n"
        '  .venv/bin/inferry-producer push --text "That movie i saw the other day was fantabulous"\n'
        "  .venv/bin/inferry-producer results --follow",
        markup=False,
    )


def _sample(burst: Trial, examples: Trial) -> Table:
    table = Table(title="Some of the results", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("label", "score", "true label", "tokens", "review"):
        table.add_column(column, justify="right" if column in ("score", "tokens") else "left", no_wrap=True)
    some = random.Random(0).sample(list(burst.reviews), min(SAMPLES, len(burst.reviews)))  # noqa: S311  any ten
    for row in (*_rows(examples, examples.reviews), *_rows(burst, some)):
        table.add_row(*row)
    return table


def _rows(trial: Trial, entries: Iterable[Entry]) -> Iterable[tuple[str | Text, ...]]:
    for entry in entries:
        result = trial.answers[entry.review.id].result
        truth = entry.review.attributes.get("label", "")
        label = Text(result.label, style="red" if truth and truth != result.label else "green")
        text = Text(safe(entry.review.text[: console.width]))
        text.truncate(max(console.width - OTHER_COLUMNS, 20), overflow="ellipsis")
        yield label, f"{result.score:.3f}", truth, f"{result.tokens:,}", text


def _figures(burst: Trial, calm: Trial, held_out: Set[str]) -> Table:
    unseen = burst.accuracy(lambda review: review.text in held_out)
    model = next(iter(burst.answers.values())).result
    table = Table(
        title="The figures", title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False
    )
    table.add_row("model", f"{model.model_name} version {model.model_version}")
    table.add_row("reviews pushed", f"{len(burst.sent_at):,}, each answered")
    if unseen.known:
        table.add_row("accuracy, all of them", f"{_share(burst.accuracy())} (most were used in training)")
        table.add_row("accuracy, held out", f"{_share(unseen)} (the model never saw these)")
    else:
        table.add_row("accuracy", f"{_share(burst.accuracy())} (some may have been used in training)")
    table.add_row("throughput", f"{burst.per_second():,.0f} reviews/s, first push to last result")
    table.add_row("latency, pushed at once", _latencies(burst))
    table.add_row("latency, no backlog", _latencies(calm))
    return table


def _share(accuracy: Accuracy) -> str:
    return f"{accuracy.share:.1%} of {accuracy.known:,}"


def _latencies(trial: Trial) -> str:
    ordered = trial.latencies_seconds()
    return ", ".join(f"p{percent} {percentile(ordered, percent) * 1000:,.0f} ms" for percent in PERCENTILES)
