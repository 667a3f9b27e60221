"""What a worker of a fault run thinks of itself, told when it is asked: client, source, windows, state, and its threads.

SIGUSR1 makes it write that to its file. It reads private parts of both, for people only: nothing is decided by it."""

from __future__ import annotations

import json
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

from kafka import KafkaConsumer

from worker.kafka.positions import Positions
from worker.kafka.source import KafkaSource
from worker.pipeline.in_flight import WindowsInFlight
from worker.state import WorkerState

LONGEST = 300
"""Characters of one value."""


class Witness:
    """Remembers the worker's source, windows and state as they are made."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: dict[str, Any] = {}

    def install(self) -> None:
        """Watches the constructors and waits for SIGUSR1. To be called from the main thread."""
        for owner in (KafkaSource, Positions, WindowsInFlight, WorkerState):
            self._remember(owner)
        signal.signal(signal.SIGUSR1, self._on_signal)

    def _remember(self, owner: type) -> None:
        original: Callable[..., None] = owner.__init__  # type: ignore[misc]

        @wraps(original)
        def wrapped(made: Any, *args: Any, **options: Any) -> None:
            self._seen[owner.__name__] = made
            original(made, *args, **options)

        owner.__init__ = wrapped  # type: ignore[misc]

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # The main thread may hold any lock just now, so it only starts another one.
        threading.Thread(target=self.tell, name="witness", daemon=True).start()

    def tell(self) -> None:
        """Writes the file, whole or not at all."""
        told = {
            "client": _guarded(self._client),
            **{name: {key: _short(value) for key, value in vars(made).items()} for name, made in self._seen.items()},
            "threads": _threads(),
        }
        waiting = self._file.with_suffix(".new")
        waiting.write_text(json.dumps(told, indent=1))
        waiting.rename(self._file)

    def _client(self) -> dict[str, Any]:
        driven = self._seen["KafkaSource"]._consumer
        if not isinstance(driven._client, KafkaConsumer):
            return {name: _short(value) for name, value in vars(driven).items()}
        consumer = driven._client
        fetcher, states = consumer._fetcher, consumer._subscription.assignment
        slot = fetcher._next_partition_records
        return {
            "group": _short(consumer.group_metadata()),
            "partitions": {str(tp.partition): _short(vars(state)) for tp, state in states.items()},
            "paused": _short(consumer.paused()),
            "in turn": None if slot is None else f"{slot.topic_partition}, {'in use' if slot else 'used up'}",
            "parked records": _short(list(fetcher._paused_partition_records)),
            "parked fetches": _short(list(fetcher._paused_completed_fetches)),
            "completed fetches": _short([fetch.topic_partition for fetch in fetcher._completed_fetches]),
            "fetching from": _short(fetcher._nodes_with_pending_fetch_requests),
        }


def _guarded(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return ask()
    except Exception as error:  # noqa: BLE001  a worker that starts, or another client: the rest is still worth telling
        return {"error": repr(error)}


def _short(value: object) -> str:
    told = repr(value)
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"


def _threads() -> dict[str, list[str]]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): [line.strip() for line in traceback.format_stack(frame)[-4:]]
        for ident, frame in sys._current_frames().items()
    }
