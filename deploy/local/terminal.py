"""How the stack shows on a terminal what it is doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TimeElapsedColumn

from deploy.local.stack import OnStep

console = Console(highlight=False, soft_wrap=True)


@contextmanager
def steps(total: int) -> Iterator[OnStep]:
    """A bar that names the program being started and goes away at the end; in a log, a line for each."""
    with bars("{task.description}", BarColumn()) as progress:
        task = progress.add_task("Starting", total=total)

        def on_step(name: str) -> None:
            progress.update(task, description=f"Starting {name}", advance=1)
            if progress.disable:
                console.print(f"Starting {name}")

        yield on_step


def bars(*columns: str | ProgressColumn) -> Progress:
    """Progress bars with the time gone by, which go away at the end; nothing where there is no terminal."""
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal)
