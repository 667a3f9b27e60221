"""How the worker logs: one structured line an event, secrets redacted, and no flood during an outage.

Our own lines come through structlog; those of libraries (kafka-python, grpc) come from the standard library's
logging at WARNING and above and take the same form.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, Literal, TextIO

import structlog

from worker.errors import ConfigError

LogFormat = Literal["auto", "console", "json"]
LEVELS = ("debug", "info", "warning", "error")
REPEAT_SECONDS = 10.0
"""The same kind of line is written at most once in this time; the next one says how many were left out."""

_HIDDEN = "***"
_SECRET_KEY = re.compile(r"(?i)pass(word|wd|phrase)|secret|credential|api[_-]?key|authorization|jaas|(^|[_.-])token$")
# A secret inside a sentence: `password=x`, `"client_secret": "x"`, `Bearer x`, `://user:x@host`.
_SECRET_TEXT = re.compile(
    r"""(?ix) (
        \b (?: [\w.-]*password | passwd | passphrase | [\w.-]*secret | api[_-]?key | token ) ["']? \s*[=:]\s*
      | \b authorization ["']? \s*[=:]\s* (?:basic|bearer)? \s*
      | \b bearer \s+
      | ://[^/\s:@]*: (?= [^/\s@]+ @ )
    ) ( "[^"]*" | '[^']*' | [^\s,;&)}\]@]+ )"""
)


class RateLimit:
    """Lets one event of each key through in an interval, and counts the others. Thread-safe."""

    def __init__(self, interval_seconds: float, monotonic: Callable[[], float], max_keys: int = 1024) -> None:
        self._interval_seconds = interval_seconds
        self._monotonic = monotonic
        self._max_keys = max_keys
        self._seen: dict[Hashable, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def admit(self, key: Hashable) -> int | None:
        """How many events of this key were left out since the last one let through; None: leave this one out."""
        now = self._monotonic()
        with self._lock:
            since, left_out = self._seen.get(key, (-float("inf"), 0))
            if now - since < self._interval_seconds:
                self._seen[key] = (since, left_out + 1)
                return None
            if len(self._seen) >= self._max_keys:  # bounded memory matters more than an exact count
                self._seen.clear()
            self._seen[key] = (now, 0)
            return left_out


def redact(text: str) -> str:
    """`text` with whatever looks like a secret in it replaced by `***`."""
    return _SECRET_TEXT.sub(rf"\1{_HIDDEN}", text)


def _redact_value(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key):
        return _HIDDEN
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redact_value(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_value("", inner) for inner in value]
    return value


def redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: hides secrets by the names of their keys and by how they look in a sentence."""
    return {key: _redact_value(key, value) for key, value in event.items()}


def _named(process: str) -> structlog.typing.Processor:
    def name(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    return name


class _OncePerCallSite(logging.Filter):
    """Keeps a library to one line in `REPEAT_SECONDS` for each place in its code that logs.

    A traceback becomes its last line: libraries log one for every expected failure of an outage."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._limit = RateLimit(REPEAT_SECONDS, monotonic)

    def filter(self, record: logging.LogRecord) -> bool:
        left_out = self._limit.admit((record.pathname, record.lineno))
        if left_out is None:
            return False
        message = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            message += f" ({record.exc_info[1]!r})"
        if left_out:
            message += f" ({left_out} more like this were left out)"
        record.msg, record.args, record.exc_info, record.exc_text = message, (), None, None
        return True


class _Unbreakable:
    """A stream whose writes never raise: a log line that cannot be written must not stop the worker."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # the reader of the pipe is gone, the disk is full, the stream was closed
            return 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


def configure(
    level: str = "info",
    log_format: LogFormat = "auto",
    stream: TextIO | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    process: str = "",
) -> None:
    """Sets up logging for the whole process. Call it first, before grpc is used; calling it again replaces the set-up.

    `level` is one of `LEVELS`; `log_format` is `console` (for people), `json` (a line of JSON an event) or `auto`:
    console at a terminal, JSON otherwise. Writes to `stream`, standard error by default. `process`: which of several
    this one is; every line says so. Raises ConfigError for another level or format.
    """
    if level.lower() not in LEVELS:
        raise ConfigError(f"The log level {level!r} is not known; use one of {', '.join(LEVELS)}.")
    if log_format not in ("auto", "console", "json"):
        raise ConfigError(f"The log format {log_format!r} is not known; use auto, console or json.")
    stream = stream or sys.stderr
    terminal = stream.isatty()
    as_json = log_format == "json" or (log_format == "auto" and not terminal)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    # gRPC's C core writes to standard error by itself; it reads this when the first channel is made.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if process:
        shared.insert(0, _named(process))
    if as_json:
        render: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            redact_event,
            structlog.processors.JSONRenderer(),
        ]
    else:
        render = [
            structlog.processors.format_exc_info,
            redact_event,
            structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback),
        ]
    output: Any = _Unbreakable(stream)
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=output),
    )
    handler = logging.StreamHandler(output)
    handler.addFilter(_OncePerCallSite(monotonic))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)
