"""The bench's page says what its figures say, and the page that is kept is that of the figures that are kept."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.bench.figures import Figures, Measured, Row, Stage, Wait, page

BENCH = Path(__file__).parents[2] / "bench"


def measured(cpu_us: float) -> Measured:
    return Measured(1_000, cpu_us, 5_000.0, 90_000_000, 0.9, 20.0)


def test_a_row_is_the_middle_round_with_the_least_and_the_most() -> None:
    figures = Figures("command", "machine", (Row("worker", (measured(30.0), measured(45.0), measured(33.0))),))

    assert "| worker | 33 | 30 – 45 | 20 | 5,000 | 90 | 0.90 |" in page(figures, "p.svg")


def test_waits_and_stages_stand_where_there_are_any() -> None:
    row = Row("worker", (measured(30.0),))
    figures = Figures(
        "command", "machine", (row,), (Wait("idle", 3.0, 48, 12.0, 30.0),), (Stage("a", 1.0), Stage("b", 2.5))
    )

    text = page(figures, "p.svg")

    assert "| idle | 3.0 | 48 | 12 | 30 |" in text
    assert "| all of them | 3.50 |" in text
    assert "How long" not in page(Figures("command", "machine", (row,)), "p.svg")


def test_the_page_that_is_kept_is_that_of_the_figures_that_are_kept() -> None:
    figures = msgspec.json.decode((BENCH / "figures.json").read_bytes(), type=Figures)

    assert (BENCH / "FIGURES.md").read_text() == page(figures, "figures.svg")
