"""The page: one HTML file with its style and script inside, and the policy that lets a browser run nothing else.

It is the same for every worker and holds no figure: those come from /status.json, and the script sets them as text."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib.resources import files
from string import Template

from worker.look import STYLESHEET


def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """As Content Security Policy Level 3 names an inline style or script: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return "'sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


_STYLE, _SCRIPT = STYLESHEET + _source("page.css"), _source("page.js")

PAGE = Template(_source("page.html")).substitute(style=_STYLE, script=_SCRIPT).encode()
"""The file, in UTF-8."""

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(_STYLE)}",
            f"script-src {_hash(_SCRIPT)}",
            "connect-src 'self'",
            "img-src data:",  # the empty icon, so that a browser does not ask for one
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""What goes with each answer of the page's routes."""
