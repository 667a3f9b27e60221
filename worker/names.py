"""Names in settings: lists of labels, headers and attributes, comma-separated, and paths of fields."""

from __future__ import annotations

from protos.fields import Fields, parse_path


def names(listed: str) -> tuple[str, ...]:
    """The names in the list, in its order."""
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def header_names(listed: str) -> tuple[str, ...]:
    """The names of headers to pass on. Raises ValueError for those that the worker writes itself."""
    ours = [name for name in names(listed) if _is_ours(name.lower())]
    if ours:
        raise ValueError(f"pass-headers cannot hold {', '.join(ours)}: the worker writes headers of that name itself")
    return names(listed)


def review_fields(text: str, id_field: str, attributes: str) -> Fields:
    """The fields of a review at these paths. Raises ValueError for what is no path."""
    if "*" in names(attributes):
        raise ValueError(
            "pass-attributes * stands for the attributes of our own form of JSON; with text-field, name paths"
        )
    paths = tuple(parse_path(name) for name in names(attributes))
    return Fields(parse_path(text), parse_path(id_field) if id_field else None, paths)


def _is_ours(header: str) -> bool:
    return header == "content-type" or header.startswith(("inferry-", "__connect.errors."))
