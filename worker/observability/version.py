"""Which version of the worker this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Inferry's own version."""
    try:
        return version("inferry")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
