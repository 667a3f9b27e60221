"""`inferry-trainer list`, `promote` and `prune`, as people see them."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from trainer.terminal import ERR, OUT
from trainer.versions import registry, serving_config


def show_list(base_path: Path, config_file: Path) -> None:
    """Prints a table of the versions, the newest last. Raises TrainerError."""
    registry.newest(base_path)
    by_version: dict[int, list[str]] = {}
    for label, number in serving_config.labels(serving_config.read(config_file), base_path.name).items():
        by_version.setdefault(number, []).append(label)
    table = Table(box=None, pad_edge=False)
    for name in ("version", "labels", "trained", "accuracy", "AUC", "log loss", "seed", "vocabulary", "digest"):
        table.add_column(name, justify="left" if name in ("labels", "trained", "digest") else "right")
    for version in registry.versions(base_path):
        labels = ", ".join(sorted(by_version.get(version.number, [])))
        figures = version.figures()
        if figures is None:
            table.add_row(str(version.number), labels, "without figures")
            continue
        test = figures.test
        table.add_row(
            str(version.number),
            labels,
            figures.created[:19].replace("T", " "),
            f"{test.accuracy:.2%}",
            f"{test.auc:.3f}",
            f"{test.log_loss:.3f}",
            str(figures.seed),
            f"{figures.vocabulary_size:,}",
            figures.vocabulary_digest[:19],
        )
    OUT.print(table)


def promote(
    base_path: Path, number: int, label: str, config_file: Path, server_path: str | None, server: str | None
) -> None:
    """Points a label at a version, in the file and, where one is named, in a running server. Raises TrainerError."""
    version = registry.named(base_path, number)
    seen = server_path or str(version.path.parent.absolute())
    before = serving_config.read(config_file)
    config = serving_config.with_label(before, base_path.name, seen, label, number)
    if server is not None:
        from trainer.versions.reload import reload

        # Before the file is written: what the server refuses is not written down.
        old_labels = serving_config.labels(before, base_path.name)
        reload(server, config, [serving_config.with_labels(config, base_path.name, each) for each in (old_labels, {})])
    serving_config.write(config, config_file)
    OUT.print(f"{label} is version {number} in {config_file}", soft_wrap=True)
    if server is not None:
        OUT.print(f"and in the model server at {server}", soft_wrap=True)
    else:
        ERR.print(
            "A server that polls the file (--model_config_file_poll_wait_seconds) takes it from there; "
            "--server host:port asks one at once.",
            soft_wrap=True,
        )


def prune(base_path: Path, keep: int, config_file: Path, *, dry_run: bool) -> None:
    """Deletes all but the newest `keep` versions; a version that bears a label stays. Raises TrainerError."""
    labelled = serving_config.labels(serving_config.read(config_file), base_path.name).values()
    doomed = registry.prunable(base_path, keep, set(labelled))
    for version in doomed:
        if not dry_run:
            registry.delete(version)
        OUT.print(f"{'would delete' if dry_run else 'deleted'} {version.path}", soft_wrap=True)
    left = len(registry.versions(base_path)) - (len(doomed) if dry_run else 0)
    OUT.print(f"{left} {'would be' if dry_run else 'are'} left", soft_wrap=True)
