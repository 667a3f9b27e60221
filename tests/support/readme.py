"""The parts of README.md that the code writes: between `<!-- NAME -->` and `<!-- end -->` stands what NAME's function gives.

`python -m tests.support.readme` writes them again; `tests/unit/test_readme.py` fails when they have drifted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from worker.errors import ExitCode
from worker.observability.metrics import metrics_table
from worker.settings import settings_table

README = Path(__file__).parents[2] / "README.md"
_PART = re.compile(r"(?P<begin><!-- (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def exit_codes_table() -> str:
    """The worker's exit codes as Markdown."""
    rows = [f"| {code.value} | {code.name.lower().replace('_', '-')} |" for code in ExitCode]
    return "\n".join(["| code | name |", "| --- | --- |", *rows]) + "\n"


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "metrics": metrics_table,
    "exit-codes": exit_codes_table,
}


def written(text: str) -> str:
    """The text with every marked part as the code has it now."""
    return _PART.sub(lambda found: found["begin"] + PARTS[found["name"]]().rstrip("\n") + "\n" + found["end"], text)


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
