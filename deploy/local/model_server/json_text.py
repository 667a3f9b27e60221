"""JSON as TensorFlow Serving reads and writes it: rapidjson's layout, its numbers, its errors (util/json_tensor.cc)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from deploy.local.model_server.status import StatusError, invalid_argument

_INDENT = 4
_DEBUG_LIMIT = 256

# rapidjson/error/en.h, by the words of Python's json module for the same mistake
_PARSE_ERRORS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object a request's body starts with; what follows it is not looked at, and bytes that are not UTF-8
    pass inside strings (as surrogate escapes), both as in TensorFlow Serving. Raises INVALID_ARGUMENT."""
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        document, _ = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        empty = start == len(text)
        words = "The document is empty." if empty else _PARSE_ERRORS.get(error.msg, f"{error.msg}.")
        raise _parse_error(words, text[: error.pos]) from error
    except RecursionError as error:
        raise _parse_error("Nested too deeply.", "") from error
    except ValueError as error:  # an integer of thousands of digits
        raise _parse_error("Number too big to be stored in double.", "") from error
    if not isinstance(document, dict):
        raise value_error(document, "Is not object")
    return document


def _parse_error(words: str, before: str) -> StatusError:
    offset = len(before.encode("utf-8", "surrogateescape"))
    return invalid_argument(f"JSON Parse error: {words} at offset: {offset}")


def value_error(value: object, problem: str) -> StatusError:
    """INVALID_ARGUMENT that shows the value it is about, cut where it is long."""
    return invalid_argument(f"JSON Value: {debug_text(value)} {problem}")


def debug_text(value: object) -> str:
    """A JSON value for an error message, cut at 256 characters or a little more."""
    writer = Writer(limit=_DEBUG_LIMIT)
    writer.single_line = True
    writer.value(value)
    return writer.text()


def decimal(value: float, dtype: type[np.floating]) -> str:
    """A float or double: six digits where they give it back exactly, else enough digits that do. A whole number ends
    with `.0`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    if dtype(text) != dtype(value):
        text = f"{value:.9g}" if dtype is np.float32 else f"{value:.17g}"
    return text if "." in text or "e" in text else text + ".0"


class Writer:
    """rapidjson's PrettyWriter: four spaces a level; an array's items on lines of their own unless `single_line`."""

    def __init__(self, limit: int | None = None) -> None:
        """With `limit`, nothing is written any more once the text has so many characters."""
        self.single_line = False
        self._limit = limit
        self._size = 0
        self._parts: list[str] = []
        self._open: list[_Level] = []

    def text(self) -> str:
        """What was written so far."""
        return "".join(self._parts)

    def encoded(self) -> bytes:
        """What was written so far, with bytes that are not UTF-8 as they came."""
        return self.text().encode("utf-8", "surrogateescape")

    @contextmanager
    def members(self) -> Iterator[None]:
        """`{` … `}`; inside, `key` and a value take turns."""
        self.raw("{")
        self._open.append(_Level(in_array=False))
        yield
        self._close("}")

    @contextmanager
    def items(self) -> Iterator[None]:
        """`[` … `]`."""
        self.raw("[")
        self._open.append(_Level(in_array=True))
        yield
        self._close("]")

    def key(self, name: str) -> None:
        """A member's name."""
        self.string(name)

    def string(self, value: str) -> None:
        """A string, escaped as JSON demands and no further."""
        self.raw(json.dumps(value, ensure_ascii=False))

    def raw(self, text: str) -> None:
        """A value that is JSON already."""
        prefix = self._prefix()
        self._put(prefix + text)

    def value(self, value: object) -> None:
        """Any value the json module parses."""
        if isinstance(value, dict):
            with self.members():
                for name, member in value.items():
                    self.key(name)
                    self.value(member)
        elif isinstance(value, list):
            with self.items():
                for item in value:
                    self.value(item)
        else:
            self.raw(json.dumps(value, ensure_ascii=False))

    def _prefix(self) -> str:
        if not self._open:
            return ""
        level = self._open[-1]
        count, level.count = level.count, level.count + 1
        line = "\n" + " " * (_INDENT * len(self._open))
        if level.in_array:
            if self.single_line:
                return ", " if count else ""
            return ("," if count else "") + line
        if count % 2:
            return ": "
        return ("," if count else "") + line

    def _close(self, bracket: str) -> None:
        level = self._open.pop()
        if level.count and not (level.in_array and self.single_line):
            bracket = "\n" + " " * (_INDENT * len(self._open)) + bracket
        self._put(bracket)

    def _put(self, text: str) -> None:
        if self._limit is None or self._size < self._limit:
            self._parts.append(text)
            self._size += len(text)


class _Level:
    """An array or object that is open, and how many values (names count too) it has."""

    __slots__ = ("count", "in_array")

    def __init__(self, *, in_array: bool) -> None:
        self.in_array = in_array
        self.count = 0


def error_body(message: str) -> bytes:
    """The body of a reply that is an error."""
    writer = Writer()
    with writer.members():
        writer.key("error")
        writer.string(message)
    return writer.encoded()
