"""Lists of names in settings: labels, headers and attributes, comma-separated."""

from __future__ import annotations


def names(listed: str) -> tuple[str, ...]:
    """The names in the list, in its order."""
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def header_names(listed: str) -> tuple[str, ...]:
    """The names of headers to pass on. Raises ValueError for those that the worker writes itself."""
    ours = [name for name in names(listed) if _is_ours(name.lower())]
    if ours:
        raise ValueError(f"pass-headers cannot hold {', '.join(ours)}: the worker writes headers of that name itself")
    return names(listed)


def _is_ours(header: str) -> bool:
    return header == "content-type" or header.startswith(("inferry-", "__connect.errors."))
