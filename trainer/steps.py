"""What the trainer shows while it works: one line a step with a bar, and what each step cost."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Steps:
    """The steps of one command. Shown live at a terminal, and as one line each where there is none."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cpu_seconds: dict[str, float] = {}
        """CPU seconds of this process, by step."""

    def say(self, sentence: str) -> None:
        """One line that stays."""
        self.console.print(sentence, soft_wrap=True, highlight=False)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step of unknown length: a pulsing bar."""
        with self._progress() as progress, self._clock(name):
            progress.add_task(name, total=None)
            yield

    @contextlib.contextmanager
    def fitting(self, epochs: int, batches: int) -> Iterator[Callable[[int], None]]:
        """The step that fits, its bar fed with `on_batch(epoch)`, where epochs count from 1."""
        with self._progress(MofNCompleteColumn()) as progress, self._clock("Fitting"):
            task = progress.add_task("Fitting", total=epochs * batches)

            def on_batch(epoch: int) -> None:
                progress.update(task, advance=1, description=f"Fitting, epoch {epoch} of at most {epochs}")

            yield on_batch

    @contextlib.contextmanager
    def counting(self, name: str, total: int) -> Iterator[Callable[[str], None]]:
        """A step of so many parts: `begin(part)`, called with a part's name as it begins, moves the bar."""
        with self._progress(MofNCompleteColumn()) as progress, self._clock(name):
            task = progress.add_task(name, total=total)
            begun = itertools.count()

            def begin(part: str) -> None:
                progress.update(task, completed=next(begun), description=f"{name}: {part}")

            yield begin

    def _progress(self, *columns: MofNCompleteColumn) -> Progress:
        return Progress(
            SpinnerColumn(finished_text="·"),
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    @contextlib.contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        began, cpu_began = time.monotonic(), time.process_time()
        yield
        self.cpu_seconds[name] = time.process_time() - cpu_began
        self.say(f"{name}: {time.monotonic() - began:.1f} s")
