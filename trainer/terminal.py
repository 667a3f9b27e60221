"""Where the commands print."""

from __future__ import annotations

from rich.console import Console

OUT = Console(highlight=False)
"""What was asked for: standard output."""
ERR = Console(stderr=True, highlight=False)
"""Progress and complaints."""
