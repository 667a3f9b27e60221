"""`inferry-trainer train`, as people see it."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from trainer.figures import Figures
from trainer.options import Training
from trainer.steps import Steps
from trainer.terminal import ERR, OUT
from trainer.versions.layout import EXTRA, REPORT_FILE


def show(base_path: Path, options: Training) -> None:
    """Trains with a bar for each step, then prints the figures and where the report is. Raises TrainerError."""
    steps = Steps(ERR)
    with steps.step("Loading TensorFlow"):
        from trainer.training import train
    path, figures = train(base_path, options, steps)
    _summary(figures)
    OUT.print(f"Exported version {path.name} to {path}", soft_wrap=True)
    OUT.print(f"Report: {path / EXTRA / REPORT_FILE}", soft_wrap=True)


def _summary(figures: Figures) -> None:
    test = figures.test
    OUT.print(
        f"Test part: {test.accuracy:.2%} of {test.reviews:,} reviews labelled right at the threshold {test.threshold:g} "
        f"({test.accuracy_at_half:.2%} at 0.5), AUC {test.auc:.3f}, log loss {test.log_loss:.3f}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("sentence")
    table.add_column("score", justify="right")
    table.add_column("label")
    for sentence in figures.sentences:
        table.add_row(sentence.text, f"{sentence.score:.3f}", sentence.label)
    OUT.print(table)
