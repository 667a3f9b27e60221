"""`inferry-trainer compare`, as people see it."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from trainer.options import Choice
from trainer.steps import Steps
from trainer.terminal import ERR, OUT
from trainer.versions import registry

SHOWN_CHARACTERS = 90


def show(base_path: Path, a: int, b: int, choice: Choice, data_dir: Path | None, differences: int) -> None:
    """Scores the test part with two versions and prints where they stand. Raises TrainerError."""
    versions = registry.named(base_path, a), registry.named(base_path, b)
    steps = Steps(ERR)
    with steps.step("Loading TensorFlow"):
        from trainer import data
        from trainer.compare import compare
    with steps.step("Reading the reviews"):
        reviews = data.load(choice, data_dir)
    for version in versions:
        figures = version.figures()
        if figures is None or figures.data.digest != reviews.digest:
            steps.say(
                f"Version {version.number} was trained on other data: it may have seen some of these test reviews."
            )
    with steps.step("Scoring"):
        found = compare(*versions, reviews.test)

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for scored in (found.a, found.b):
        table.add_column(str(scored.version.number), justify="right")
    quality = found.a.quality, found.b.quality
    table.add_row("accuracy at its threshold", *(f"{each.accuracy:.2%}" for each in quality))
    table.add_row("accuracy at 0.5", *(f"{each.accuracy_at_half:.2%}" for each in quality))
    table.add_row("AUC", *(f"{each.auc:.4f}" for each in quality))
    table.add_row("log loss", *(f"{each.log_loss:.4f}" for each in quality))
    table.add_row("calibration error", *(f"{each.calibration_error:.2%}" for each in quality))
    table.add_row("alone right", *(f"{count:,}" for count in found.only_right))
    table.add_row("64 reviews, here", *(f"{scored.milliseconds:.1f} ms" for scored in (found.a, found.b)))
    OUT.print(table)
    OUT.print(f"\nSame label for {found.agreement:.2%} of {len(reviews.test):,} test reviews.")
    p = found.p_value
    verdict = "more than chance explains" if p < 0.05 else "no more than chance explains"
    OUT.print(f"McNemar's test: p = {p:.3g}; one is right where the other is wrong {verdict}.", soft_wrap=True)
    OUT.print("\nFarthest apart:")
    for index in found.farthest_apart(differences):
        example = reviews.test[index]
        meant = "positive" if example.positive else "negative"
        OUT.print(
            Text(
                f"  {found.a.scores[index]:.3f} {found.b.scores[index]:.3f} {meant}: {example.text[:SHOWN_CHARACTERS]!r}"
            ),
            soft_wrap=True,
        )
