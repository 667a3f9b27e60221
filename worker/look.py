"""The look that the pages of all programs share, as one stylesheet: light and dark, as the reader's system asks."""

from __future__ import annotations

from importlib.resources import files

STYLESHEET = files("worker").joinpath("look.css").read_text("utf-8")
