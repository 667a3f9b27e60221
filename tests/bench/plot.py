"""The candidates' CPU as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.bench.figures import Figures

WORKER, FLOOR, LOOP = "#1f5fa8", "#9aa5b1", "#c2583b"


def draw(figures: Figures, path: Path) -> None:
    """Writes an SVG with a bar for each candidate, on a logarithmic scale: the loops cost tens of times the floors."""
    rows = figures.rows[::-1]
    with mpl.rc_context({"svg.hashsalt": "inferry", "font.size": 10}):
        figure = Figure(figsize=(9, 0.42 * len(rows) + 1), layout="constrained")
        axes = figure.subplots()
        cpu = [row.cpu_us for row in rows]
        spread = [
            [row.cpu_us - min(each.cpu_us for each in row.rounds) for row in rows],
            [max(each.cpu_us for each in row.rounds) - row.cpu_us for row in rows],
        ]
        axes.barh([row.name for row in rows], cpu, color=[_colour(row.name) for row in rows], xerr=spread, height=0.7)
        for place, value in enumerate(cpu):
            axes.text(value * 1.12, place, f"{value:,.0f}", va="center", ha="left")
        axes.set_xscale("log")
        axes.set_xlim(right=max(cpu) * 2)
        axes.set_xlabel("µs of CPU a review (median; whiskers: least, most)")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _colour(name: str) -> str:
    return WORKER if name.startswith("worker") else FLOOR if name.startswith("floor") else LOOP
