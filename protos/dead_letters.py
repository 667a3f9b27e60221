"""The headers of a dead letter: why a record could not be answered, and where it came from.

A dead letter is the record itself, its key, value and headers untouched, with headers appended. Of a record that is too
large for the dead-letter topic, parts are cut: value, key or headers. An empty one stands in its place, and two headers
tell the size and the SHA-256 of what was there. Those that begin with
`__connect.errors.` are Kafka Connect's (KIP-298; names and text values as in its DeadLetterQueueReporter), so that
tools made for Connect's dead letters read ours; the `inferry-` ones are our own. All values are UTF-8 text, numbers in
decimal.

A record that is replayed and fails again gets these headers again, in place of the earlier ones; only the count of
replays goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from protos.forms import Headers

CONNECT_PREFIX = "__connect.errors."
TOPIC = CONNECT_PREFIX + "topic"
PARTITION = CONNECT_PREFIX + "partition"
OFFSET = CONNECT_PREFIX + "offset"
CONNECTOR_NAME = CONNECT_PREFIX + "connector.name"
TASK_ID = CONNECT_PREFIX + "task.id"
STAGE = CONNECT_PREFIX + "stage"
CLASS_NAME = CONNECT_PREFIX + "class.name"
EXCEPTION_CLASS_NAME = CONNECT_PREFIX + "exception.class.name"
EXCEPTION_MESSAGE = CONNECT_PREFIX + "exception.message"
EXCEPTION_STACKTRACE = CONNECT_PREFIX + "exception.stacktrace"

REASON = "inferry-reason"
"""One of the values of `worker.records.Reason`."""
ATTEMPTS = "inferry-attempts"
"""How often the record has been replayed so far; 0 the first time it fails."""
FAILED_AT_MS = "inferry-failed-at-ms"
"""When it failed, in milliseconds since the epoch."""

PARTS = ("value", "headers", "key")
"""What can be cut. The headers of part p are `inferry-cut-<p>-bytes` and `inferry-cut-<p>-sha256`."""

MAX_MESSAGE_BYTES = 4_096
"""A longer message is cut: a server's error may quote a whole request."""
BRIEF_BYTES = 256
"""To what texts are cut where even a dead letter without key, value and headers was too large. Holds a topic's name."""


class Cut(msgspec.Struct, frozen=True):
    """A part of a record that a dead letter had to leave out."""

    size_bytes: int
    """Its size, of headers that of `header_bytes`; -1 where the header is missing."""
    sha256: str
    """In hexadecimal."""

    @classmethod
    def of(cls, data: bytes) -> Cut:
        """What is told of `data` when it is cut."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


def header_bytes(headers: Headers) -> bytes:
    """Headers as the bytes that their digest is of: for each header its name in UTF-8 and its value, before either its
    length as four bytes, big-endian, signed; -1 for a header without a value."""
    parts: list[bytes] = []
    for name, value in headers:
        encoded = name.encode()
        parts += (len(encoded).to_bytes(4), encoded)
        parts += (_NO_VALUE,) if value is None else (len(value).to_bytes(4), value)
    return b"".join(parts)


_NO_VALUE = (-1).to_bytes(4, signed=True)


def _bytes_header(part: str) -> str:
    return f"inferry-cut-{part}-bytes"


def _sha256_header(part: str) -> str:
    return f"inferry-cut-{part}-sha256"


_OURS = frozenset((REASON, ATTEMPTS, FAILED_AT_MS, *map(_bytes_header, PARTS), *map(_sha256_header, PARTS)))


class DeadLetterInfo(msgspec.Struct, frozen=True):
    """What the headers of a dead letter say. A header that is missing or unreadable gives its default."""

    topic: str = ""
    partition: int = -1
    offset: int = -1
    """Where the record was read that failed."""
    reason: str = ""
    message: str = ""
    """What was wrong, as a sentence."""
    stage: str = ""
    connector_name: str = ""
    task_id: str = ""
    """Who read the record: for us the consumer group and the worker's own name in it."""
    class_name: str = ""
    exception_class_name: str = ""
    """Dotted names: the code that failed, and its error."""
    stacktrace: str = ""
    failed_at_ms: int = -1
    attempts: int = 0
    """How often the record has been replayed so far."""
    cut: Mapping[str, Cut] = {}
    """By part (see PARTS), what was left out of the record because it is too large."""


def headers_for(
    original: Headers, info: DeadLetterInfo, *, max_text_bytes: int = MAX_MESSAGE_BYTES
) -> list[tuple[str, bytes]]:
    """The original headers, byte for byte and in their order (unless `info` says that they are cut), and after them what
    `info` tells of the failure. No value of ours is longer than `max_text_bytes`.

    The count of attempts comes from the original headers, where a replay has put it, and not from `info`. An empty
    stack trace leaves its header out."""
    told = {
        TOPIC: info.topic,
        PARTITION: str(info.partition),
        OFFSET: str(info.offset),
        CONNECTOR_NAME: info.connector_name,
        TASK_ID: info.task_id,
        STAGE: info.stage,
        CLASS_NAME: info.class_name,
        EXCEPTION_CLASS_NAME: info.exception_class_name,
        EXCEPTION_MESSAGE: info.message,
        EXCEPTION_STACKTRACE: info.stacktrace,
        REASON: info.reason,
        ATTEMPTS: str(parse(original).attempts),
        FAILED_AT_MS: str(info.failed_at_ms),
    }
    if not info.stacktrace:
        del told[EXCEPTION_STACKTRACE]
    for part, cut in info.cut.items():
        told[_bytes_header(part)] = str(cut.size_bytes)
        told[_sha256_header(part)] = cut.sha256
    kept = [] if "headers" in info.cut else without(original)
    return [*kept, *((name, _text(value, max_text_bytes)) for name, value in told.items())]


def replay_headers(dead_letter: Headers) -> list[tuple[str, bytes]]:
    """The headers to send a dead letter back with: the original ones, and the count of replays, this one included."""
    return [*without(dead_letter), (ATTEMPTS, str(parse(dead_letter).attempts + 1).encode())]


def without(headers: Headers) -> list[tuple[str, bytes]]:
    """The headers that are not about a failure: what the record's producer sent."""
    return [(name, value) for name, value in headers if not (name in _OURS or name.startswith(CONNECT_PREFIX))]


def parse(headers: Headers) -> DeadLetterInfo:
    """What the headers say, the last of each name counting. Never raises, whatever they hold."""
    told = dict(_read(headers))
    return DeadLetterInfo(
        topic=told.get(TOPIC, ""),
        partition=_number(told.get(PARTITION), -1),
        offset=_number(told.get(OFFSET), -1),
        reason=told.get(REASON, ""),
        message=told.get(EXCEPTION_MESSAGE, ""),
        stage=told.get(STAGE, ""),
        connector_name=told.get(CONNECTOR_NAME, ""),
        task_id=told.get(TASK_ID, ""),
        class_name=told.get(CLASS_NAME, ""),
        exception_class_name=told.get(EXCEPTION_CLASS_NAME, ""),
        stacktrace=told.get(EXCEPTION_STACKTRACE, ""),
        failed_at_ms=_number(told.get(FAILED_AT_MS), -1),
        attempts=max(0, _number(told.get(ATTEMPTS), 0)),
        cut={
            part: Cut(_number(told.get(_bytes_header(part)), -1), told.get(_sha256_header(part), ""))
            for part in PARTS
            if _bytes_header(part) in told or _sha256_header(part) in told
        },
    )


def _read(headers: Headers) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        if value is not None:  # Kafka allows a header without a value
            yield name, value.decode(errors="replace")


def _number(value: str | None, default: int) -> int:
    """Within Kafka's longest number, 19 digits; `int` alone would also take '1_0', ' 1' and a megabyte of digits."""
    if value and len(value) <= 20 and value.removeprefix("-").isdecimal() and value.isascii():
        return int(value)
    return default


def _text(value: str, max_bytes: int) -> bytes:
    """UTF-8, cut at `max_bytes` without splitting a character; lone surrogates become '?'."""
    encoded = value.encode(errors="replace")
    return encoded[:max_bytes].decode(errors="ignore").encode() if len(encoded) > max_bytes else encoded
