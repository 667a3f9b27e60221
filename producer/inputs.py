"""Reviews from files and streams: CSV, JSON lines, plain lines. Reads one row at a time, whatever the input's size."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from producer.errors import BadInput, NoInput, UsageError
from protos.codecs import ReviewMessage

STDIN = "-"
MAX_LINE_BYTES = 1 << 20
"""A longer line is a bad row: Kafka takes no record of that size by default, and memory stays bounded."""


class Format(StrEnum):
    """How the rows of an input are written."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    LINES = "lines"


class Columns(NamedTuple):
    """Which columns of a CSV file, or fields of a JSON object, mean what."""

    text: str = "text"
    id: str | None = None
    """None: `id` where there is one."""
    key: str | None = None
    """None: the review's id is the key."""
    attributes: Sequence[str] = ()
    """Columns to carry along as attributes. JSON objects may have an `attributes` object besides."""


class Entry(NamedTuple):
    """One review to push."""

    review: ReviewMessage
    key: bytes | None
    """The record's key: reviews of one key stay in order. None: no order is asked for."""
    where: str
    """File and line, for messages."""


class BadRow(NamedTuple):
    """An input row that is no review."""

    where: str
    why: str


Row = Entry | BadRow

_BY_SUFFIX = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".txt": Format.LINES,
}


def entry(review: ReviewMessage, where: str = "", key: str | None = None) -> Entry:
    """An entry keyed by `key`, else by the review's id, else not at all."""
    chosen = key or review.id
    return Entry(review, chosen.encode() if chosen else None, where or review.id or "review")


def format_of(name: str) -> Format:
    """The format a file's extension stands for; standard input is lines. Raises UsageError for an unknown one."""
    if name == STDIN:
        return Format.LINES
    suffix = Path(name).suffix.lower()
    if suffix not in _BY_SUFFIX:
        known = ", ".join(_BY_SUFFIX)
        raise UsageError(
            f"The name {name} does not tell its format (known: {known}); say --format csv|tsv|jsonl|lines."
        )
    return _BY_SUFFIX[suffix]


def read(
    names: Sequence[str], columns: Columns, forced: Format | None = None, stdin: BinaryIO | None = None
) -> Iterator[Row]:
    """The rows of all files, in order; `-` is `stdin`. Nothing is read before the first row is asked for, but what can
    be known is checked at once: raises NoInput for a file that cannot be opened, UsageError for an unknown extension.

    While reading: BadInput when a CSV file lacks a column."""
    formats = [forced or format_of(name) for name in names]
    for name in names:
        if name != STDIN:
            _open(name).close()
    return _rows(list(zip(names, formats, strict=True)), columns, stdin)


def _rows(files: Sequence[tuple[str, Format]], columns: Columns, stdin: BinaryIO | None) -> Iterator[Row]:
    for name, form in files:
        if name == STDIN:
            yield from _READERS[form]("stdin", _Lines(stdin or sys.stdin.buffer), columns)
        else:
            with _open(name) as stream:
                yield from _READERS[form](name, _Lines(stream), columns)


def _open(name: str) -> BinaryIO:
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise NoInput(f"Cannot read {name}: {error.strerror}.") from error


class _Lines:
    """The lines of a binary stream with their line ends, counted from 1. A line over the limit is read to its end
    but kept only in part, and `overlong` says so until the next line."""

    def __init__(self, stream: BinaryIO) -> None:
        self.number = 0
        self.overlong = False
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        while line := self._stream.readline(MAX_LINE_BYTES + 1):
            self.number += 1
            self.overlong = len(line) > MAX_LINE_BYTES
            part = line
            while self.overlong and part and not part.endswith(b"\n"):
                part = self._stream.readline(MAX_LINE_BYTES)
            if self.number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # the mark some editors put before UTF-8
            yield line


_TOO_LONG = f"the line is longer than {MAX_LINE_BYTES:,} bytes"
_NOT_UTF8 = "not UTF-8"


def _read_lines(name: str, lines: _Lines, _columns: Columns) -> Iterator[Row]:
    for line in lines:
        where = f"{name}:{lines.number}"
        if lines.overlong:
            yield BadRow(where, _TOO_LONG)
            continue
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            yield BadRow(where, _NOT_UTF8)
            continue
        # Only as text: bytes.strip() knows fewer kinds of white space.
        if text.strip():
            yield entry(ReviewMessage(id="", text=text), where)


def _read_jsonl(name: str, lines: _Lines, columns: Columns) -> Iterator[Row]:
    decoder = msgspec.json.Decoder()
    for line in lines:
        where = f"{name}:{lines.number}"
        if lines.overlong:
            yield BadRow(where, _TOO_LONG)
        elif not line.strip():
            continue
        else:
            try:
                row = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield BadRow(where, f"not JSON ({error})")
                continue
            if isinstance(row, dict):
                yield _from_mapping(row, columns, where)
            else:
                yield BadRow(where, "not a JSON object")


def _read_csv(name: str, lines: _Lines, columns: Columns, delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    # Bytes that are not UTF-8 become lone surrogates here, so that one bad field spoils its own row only.
    rows = csv.reader((line.decode(errors="surrogateescape") for line in lines), delimiter=delimiter)
    header = _header(name, rows, columns)
    while True:
        where = f"{name}:{lines.number + 1}"
        overlong = False
        try:
            row = next(rows, None)
            overlong = lines.overlong
        except csv.Error as error:
            yield BadRow(where, f"not CSV ({error})")
            continue
        if row is None:
            return
        if overlong:
            yield BadRow(where, _TOO_LONG)
        elif not row:
            continue  # an empty line
        elif len(row) != len(header):
            yield BadRow(where, f"{len(row)} fields where the first line names {len(header)} columns")
        elif not _is_utf8(row):
            yield BadRow(where, _NOT_UTF8)
        else:
            yield _from_mapping(dict(zip(header, row, strict=True)), columns, where)


def _read_tsv(name: str, lines: _Lines, columns: Columns) -> Iterator[Row]:
    return _read_csv(name, lines, columns, delimiter="\t")


_READERS = {
    Format.CSV: _read_csv,
    Format.TSV: _read_tsv,
    Format.JSONL: _read_jsonl,
    Format.LINES: _read_lines,
}


def _header(name: str, rows: Iterator[list[str]], columns: Columns) -> list[str]:
    try:
        header = next(rows, None)
    except csv.Error as error:
        raise BadInput(f"{name}:1: the first line is not CSV ({error}).") from error
    if not header:
        raise BadInput(f"{name} is empty: its first line must name the columns.")
    wanted = [columns.text, columns.id, columns.key, *columns.attributes]
    missing = [column for column in wanted if column and column not in header]
    if missing:
        raise BadInput(f"{name} has no column “{missing[0]}”; its columns are: {', '.join(header)}.")
    return header


def _is_utf8(fields: Iterable[str]) -> bool:
    try:
        for field in fields:
            field.encode()
    except UnicodeEncodeError:
        return False
    return True


def _from_mapping(row: Mapping[str, Any], columns: Columns, where: str) -> Row:
    text = row.get(columns.text)
    if not isinstance(text, str) or not text.strip():
        found = "" if text is None or text == "" else " that is a text"
        return BadRow(where, f"no “{columns.text}”{found}; it has: {', '.join(map(str, row)) or 'nothing'}")
    try:
        review = ReviewMessage(
            id=_scalar(row, columns.id) if columns.id else _scalar(row, "id", needed=False),
            text=text,
            attributes=_attributes(row, columns),
        )
        return entry(review, where, _scalar(row, columns.key) if columns.key else None)
    except ValueError as error:
        return BadRow(where, str(error))


def _attributes(row: Mapping[str, Any], columns: Columns) -> dict[str, str]:
    given = row.get("attributes")
    nested = given if isinstance(given, dict) else {}
    attributes = {name: _scalar(nested, name) for name in nested}
    return attributes | {name: _scalar(row, name) for name in columns.attributes}


def _scalar(row: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    """A string, number or truth value as text. Raises ValueError for anything else, or where it is missing but needed."""
    value = row.get(name)
    if value is None and not needed:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"no “{name}” that is a text or a number")
