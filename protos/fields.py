"""Where text and id stand in JSON of a shape that is not ours.

A path is dotted (`review.body`), or a JSON pointer (RFC 6901: `/review/body`) where a name has dots in it. A number is the
place in a list."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from protos.forms import CodecError

_PLACE = re.compile("0|[1-9][0-9]{0,8}")


class Path(NamedTuple):
    """The way to one field."""

    shown: str
    """As it was written."""
    parts: tuple[str, ...]


class Fields(NamedTuple):
    """Which fields of a JSON document are a review."""

    text: Path
    id: Path | None = None
    """None: reviews have no id."""
    attributes: tuple[Path, ...] = ()
    """What becomes an attribute, named as the path is written. Strings as they are, other values as JSON."""


def parse_path(written: str) -> Path:
    """Raises ValueError with a sentence for what is no path."""
    if not written.startswith("/"):
        parts = tuple(written.split("."))
        if "" in parts:
            raise ValueError(f"{written!r} is no path to a field: write it as review.body or /review/body")
        return Path(written, parts)
    if re.search("~(?![01])", written):
        raise ValueError(f"{written!r} is no JSON pointer: ~ is written ~0, and / inside a name ~1 (RFC 6901)")
    return Path(written, tuple(part.replace("~1", "/").replace("~0", "~") for part in written[1:].split("/")))


def text_at(document: Any, path: Path) -> str:
    """Raises CodecError: no-text where there is no such field or it is null, malformed where it is no string."""
    found = find(document, path)
    if found is None:
        raise CodecError("no-text", f"The JSON has no field `{path.shown}`, or it is null.")
    if not isinstance(found, str):
        raise CodecError("malformed", f"The JSON's field `{path.shown}` is {_kind(found)}; the text is a string.")
    return found


def id_at(document: Any, path: Path) -> str | int | None:
    """None where there is no such field or it is null. Raises CodecError (malformed) where it is no string or integer."""
    found = find(document, path)
    if isinstance(found, bool) or not (found is None or isinstance(found, str | int)):
        raise CodecError(
            "malformed", f"The JSON's field `{path.shown}` is {_kind(found)}; an id is a string or integer."
        )
    return found


def attributes_at(document: Any, paths: tuple[Path, ...]) -> dict[str, str]:
    """Those of the fields that are there and not null, by their paths as written."""
    found = ((path.shown, find(document, path)) for path in paths)
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        for name, value in found
        if value is not None
    }


def find(document: Any, path: Path) -> Any:
    """The value at the path; None where there is none, or null."""
    here = document
    for part in path.parts:
        if isinstance(here, dict):
            here = here.get(part)
        elif isinstance(here, list) and _PLACE.fullmatch(part) and int(part) < len(here):
            here = here[int(part)]
        else:
            return None
    return here


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", dict: "an object", list: "a list", str: "a string"}
    return kinds.get(type(value), "a number")
