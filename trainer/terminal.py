"""Where the commands print."""

from __future__ import annotations

from rich.console import Console

OUT = Console(highlight=False)
"""What was asked for: standard output."""
ERR = Console(stderr=True, highlight=False)
"""Progress and complaints."""

PIPE_COLUMNS = 200
if not OUT.is_terminal:
    OUT.width = PIPE_COLUMNS  # rich takes 80 where there is no terminal, and would fold our tables
