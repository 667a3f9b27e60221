"""How the stack shows on a terminal what it is doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.local.stack import OnStep

console = Console()


@contextmanager
def steps(total: int) -> Iterator[OnStep]:
    """A bar that names the program being started; it goes away at the end."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Starting", total=total)

        def on_step(name: str) -> None:
            progress.update(task, description=f"Starting {name}", advance=1)

        yield on_step
