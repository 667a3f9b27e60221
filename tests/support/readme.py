"""The pages that the code writes: parts of README.md, the page of metrics and that of /status.json.

In the README, what NAME's function gives stands between `<!-- NAME -->` and `<!-- end -->`. `python -m tests.support.readme`
writes all of it again; tests fail where it has drifted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from worker.errors import ExitCode
from worker.observability.metrics import metrics_page, metrics_table
from worker.observability.status.document import status_page
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
METRICS = ROOT / "deploy" / "prometheus" / "METRICS.md"
STATUS = ROOT / "docs" / "status.md"
_PART = re.compile(r"(?P<begin><!-- (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def exit_codes_table() -> str:
    """The worker's exit codes as Markdown."""
    rows = [f"| {code.value} | {code.name.lower().replace('_', '-')} |" for code in ExitCode]
    return "\n".join(["| code | name |", "| --- | --- |", *rows]) + "\n"


def settings_table() -> str:
    """The settings as the README's Markdown table."""
    rows = ["| setting | default | what it is |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = "" if default in ("", None) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        rows.append(f"| `{name.replace('_', '-')}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


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
    METRICS.write_text(metrics_page(), encoding="utf-8")
    STATUS.write_text(status_page(), encoding="utf-8")
