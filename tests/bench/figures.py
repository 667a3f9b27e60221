"""What was measured, as it is kept in `figures.json`, and the page that shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from string import Template

import msgspec


class Measured(msgspec.Struct, frozen=True):
    """One candidate's run in one round. Its CPU is that of all its processes, from the first record to the last."""

    reviews: int
    cpu_us: float
    """Microseconds of CPU for each review."""
    per_second: float
    """Reviews answered each second."""
    peak_bytes: int
    """The most resident memory that its processes ever had, added up."""
    ready_seconds: float
    """From the start until it asked for its first record."""
    model_us: float = 0.0
    """Microseconds of the model server's CPU for each review."""


class Row(msgspec.Struct, frozen=True):
    """One candidate and its rounds."""

    name: str
    rounds: tuple[Measured, ...]

    @property
    def cpu_us(self) -> float:
        """The median of the rounds."""
        return median(each.cpu_us for each in self.rounds)

    @property
    def per_second(self) -> float:
        """The median of the rounds."""
        return median(each.per_second for each in self.rounds)


class Wait(msgspec.Struct, frozen=True):
    """How long single reviews waited for their results: from the moment they were due to be sent."""

    name: str
    per_second: float
    """Reviews sent each second."""
    reviews: int
    p50_ms: float
    p99_ms: float


class Stage(msgspec.Struct, frozen=True):
    """A step of the worker's own path, alone, in one thread."""

    name: str
    cpu_us: float
    """Microseconds of CPU for each review."""


class Figures(msgspec.Struct, frozen=True):
    """One run of the bench."""

    command: str
    machine: str
    rows: tuple[Row, ...]
    waits: tuple[Wait, ...] = ()
    stages: tuple[Stage, ...] = ()


PAGE = Template("""# Figures

`$command` wrote this page, its picture and the same figures as [figures.json](figures.json); edit none of them. What the
candidates are and how they are measured: [README.md](README.md). $machine.

![CPU of each candidate]($picture)

## CPU, throughput, memory

Microseconds of CPU for each review: the middle round, and the least and the most. "Model" is the model server's CPU for
each review while the candidate ran.

$rows

$waits$stages""")


def page(figures: Figures, picture: str) -> str:
    """The figures as Markdown; `picture` is the plot's file name."""
    return PAGE.substitute(
        command=figures.command,
        machine=figures.machine,
        picture=picture,
        rows=_table(
            ("", "CPU µs", "least – most", "model µs", "reviews/s", "peak MB", "ready after s"),
            (_row(each) for each in figures.rows),
        ),
        waits=_waits(figures.waits),
        stages=_stages(figures.stages),
    )


def _row(row: Row) -> tuple[str, ...]:
    cpu = [each.cpu_us for each in row.rounds]
    return (
        row.name,
        _number(row.cpu_us),
        f"{_number(min(cpu))} – {_number(max(cpu))}",
        _number(median(each.model_us for each in row.rounds)),
        f"{row.per_second:,.0f}",
        f"{median(each.peak_bytes for each in row.rounds) / 1e6:.0f}",
        f"{median(each.ready_seconds for each in row.rounds):.2f}",
    )


def _waits(waits: Sequence[Wait]) -> str:
    if not waits:
        return ""
    table = _table(
        ("", "reviews/s", "reviews", "p50 ms", "p99 ms"),
        ((w.name, f"{w.per_second:,.1f}", f"{w.reviews:,}", f"{w.p50_ms:.0f}", f"{w.p99_ms:.0f}") for w in waits),
    )
    return f"""## How long a review waits

From the moment that a review was due to be sent until a reader of committed records had its result.

{table}

"""


def _stages(stages: Sequence[Stage]) -> str:
    if not stages:
        return ""
    total = Stage("all of them", sum(stage.cpu_us for stage in stages))
    table = _table(("", "CPU µs"), ((stage.name, f"{stage.cpu_us:.2f}") for stage in (*stages, total)))
    return f"""## Where the worker's own path spends it

Each step alone, in one thread, over windows of 512 reviews; the clients of Kafka and of gRPC are not in it.

{table}
"""


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
