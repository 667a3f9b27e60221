"""`inferry-trainer quality`: measures a version and writes what it found, once for people and once for programs."""

from __future__ import annotations

from pathlib import Path

from trainer.commands import train as train_command
from trainer.errors import ExportError
from trainer.options import Choice, Training
from trainer.quality.perturbations import PERTURBATIONS
from trainer.steps import Steps
from trainer.terminal import ERR, OUT
from trainer.versions import registry

JSON_FILE = "quality.json"
PAGE_FILE = "QUALITY.md"


def show(base_path: Path, number: int | None, choice: Choice, data_dir: Path | None, output: Path) -> None:
    """Measures the version, the newest where `number` is None; where there is none at all, it trains one first.

    The same version gives the same two files. Raises TrainerError."""
    if number is None and not registry.versions(base_path):
        ERR.print(f"There is no model in {base_path} yet, so one is trained first: about two minutes.", soft_wrap=True)
        train_command.show(base_path, Training(data=choice, data_dir=data_dir))
    version = registry.newest(base_path) if number is None else registry.named(base_path, number)
    steps = Steps(ERR)
    with steps.step("Loading TensorFlow"):
        from trainer import data
        from trainer.quality import measuring as quality
        from trainer.quality import page as quality_page
        from trainer.scoring import Scorer
    with steps.step("Reading the reviews"):
        reviews = data.load(choice, data_dir)
        sentences = list(data.package_rows("rotten_tomatoes"))
    with steps.counting("Scoring", len(PERTURBATIONS)) as begin:
        report = quality.measure(Scorer(version), version.figures(), reviews, sentences, on_change=begin)
    _write(output / JSON_FILE, report.dump())
    _write(output / PAGE_FILE, quality_page.markdown(report).encode())
    for domain in report.domains:
        at = ", ".join(f"{each.accuracy:.1%} at {each.threshold:g}" for each in domain.all.at)
        OUT.print(f"{domain.name}: {at}, AUC {domain.all.auc:.3f}, log loss {domain.all.log_loss:.3f}", soft_wrap=True)
    OUT.print(f"Report: {output / PAGE_FILE}", soft_wrap=True)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ExportError(
            f"cannot write the report {path}: {error.strerror}. --output names a folder for it"
        ) from error
