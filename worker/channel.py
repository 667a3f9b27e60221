"""What the parent and one of its processes say to each other: JSON objects, one a line, over a pair of sockets.

The pair is also a tether. It ends when either side dies, however it dies, and the other side sees the end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any

import msgspec


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """To a process, first of all: who it is, and its settings by their field names, secrets included."""

    process: int
    settings: dict[str, Any]


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """To a process: softly, finishing what is in flight, or hard, giving it up."""

    hard: bool


class Port(msgspec.Struct, frozen=True, tag="port"):
    """From a process: where it serves its metrics and probes."""

    port: int


class Bounds(msgspec.Struct, frozen=True, tag="bounds"):
    """From a process that has not joined the group yet: `start` is applied, and a bounded run ends at these offsets, by
    partition; None: it has no end."""

    until: Mapping[int, int] | None


class Running(msgspec.Struct, frozen=True, tag="running"):
    """From a process: its start is over, it works."""


class Summary(msgspec.Struct, frozen=True, tag="summary"):
    """From a process at the end of a bounded run: whether that was all there is, and how many answers it made durable."""

    complete: bool
    results: dict[str, int]
    dead_letters: dict[str, int]


ToProcess = Begin | Stop
FromProcess = Port | Bounds | Running | Summary
Tell = Callable[[FromProcess], None]
"""Takes what a worker has to say to its parent. Thread-safe; never raises."""


def to_nobody(_message: FromProcess) -> None:
    """For a worker that has no parent."""


class Channel:
    """One end of the pair. `send` is thread-safe; one thread may read."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lines = end.makefile("rb")
        self._lock = Lock()

    def send(self, message: ToProcess | FromProcess) -> None:
        """Says it; nobody hears it when the other side is gone."""
        line = msgspec.json.encode(message) + b"\n"
        with self._lock:
            try:
                self._socket.sendall(line)
            except OSError:
                return

    def to_process(self) -> Iterator[ToProcess]:
        """What the parent says, until it is gone."""
        yield from self._read(msgspec.json.Decoder(ToProcess))

    def from_process(self) -> Iterator[FromProcess]:
        """What the process says, until it is gone."""
        yield from self._read(msgspec.json.Decoder(FromProcess))

    def close(self) -> None:
        """The other side sees the end at once. Idempotent."""
        with suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self, decoder: msgspec.json.Decoder[Any]) -> Iterator[Any]:
        try:
            for line in self._lines:
                yield decoder.decode(line)
        except (OSError, ValueError, msgspec.DecodeError):  # reset, closed by us, or half a line of one that was killed
            return
