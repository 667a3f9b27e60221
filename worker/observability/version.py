"""Which versions of what are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Inferry's own version; `unknown` where it runs from a checkout that was never installed."""
    return version_of("inferry") or "unknown"


def version_of(package: str) -> str | None:
    """A package's version; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
