"""The README says what the code says, and names only what is there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.readme import PARTS, README, written

TEXT = README.read_text()
ROOT = README.parent


def test_the_generated_tables_are_those_of_the_code() -> None:
    assert written(TEXT) == TEXT, "python -m tests.support.readme writes them again"
    assert all(f"<!-- {name} -->" in TEXT for name in PARTS)


def test_every_file_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_the_readme_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", Path(ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)|`make ([a-z]+)`", TEXT, re.MULTILINE)) <= {("", t) for t in targets} | {
        (t, "") for t in targets
    }
