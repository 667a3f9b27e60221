"""What runs in a folder: one stack at most, found by its lock, described by `stack.json`.

The process that runs the stack holds an advisory lock on `.inferry/stack.lock` as long as it lives and has its id
written in it. The kernel lets go of the lock when that process ends, however it ends, so a process id that is read
while the lock is held is always the right one, and a file left behind by a crash fools nobody.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from deploy.local.errors import AlreadyRunning, NotRunning, ProcessDied

STATE = Path(".inferry")
"""The folder of everything the stack writes, below the current one."""
LOCK = "stack.lock"
DESCRIPTION = "stack.json"
POLL_SECONDS = 0.1
DOWN_SECONDS = 60


class Description(msgspec.Struct, omit_defaults=True):
    """`stack.json`: where the running stack's parts are. The producer's commands look here for Kafka."""

    bootstrap: str
    grpc: str = ""
    rest: str = ""
    status: str = ""
    """The worker's page for people."""
    metrics: str = ""
    prometheus: str = ""
    notes: list[str] = []
    """What to know about the addresses."""
    pids: dict[str, int] = {}


@contextmanager
def claimed(state: Path) -> Iterator[None]:
    """Holds the folder's lock. Raises AlreadyRunning when another process does."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / LOCK).open("a+") as lock:
        if not _locks_soon(lock):
            where = description(state)
            kafka = f" Kafka is at {where.bootstrap}." if where else " It is still starting."
            raise AlreadyRunning(
                f"This folder's stack is running already (process {_owner(lock)}).{kafka} "
                "`inferry-local status` tells more, `inferry-local down` stops it."
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        (state / DESCRIPTION).unlink(missing_ok=True)
        try:
            yield
        finally:
            (state / DESCRIPTION).unlink(missing_ok=True)


def describe(state: Path, where: Description) -> None:
    """Writes `stack.json` in one step."""
    temporary = state / f"{DESCRIPTION}.new"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(where), indent=2) + b"\n")
    temporary.replace(state / DESCRIPTION)


def description(state: Path) -> Description | None:
    """The running stack's description; None when none is running or it is not ready yet."""
    if owner(state) is None:
        return None
    try:
        return msgspec.json.decode((state / DESCRIPTION).read_bytes(), type=Description)
    except (OSError, msgspec.DecodeError):
        return None


def owner(state: Path) -> int | None:
    """The id of the process that runs this folder's stack, or None."""
    try:
        with (state / LOCK).open("r+") as lock:
            return None if _locks(lock) else _owner(lock)
    except FileNotFoundError:
        return None


def stop_owner(state: Path, timeout_seconds: float = DOWN_SECONDS) -> int:
    """Asks the process that runs the stack to stop everything, waits until it is gone, and returns its id.

    Raises NotRunning, or ProcessDied when it does not end in time."""
    process = owner(state)
    if process is None:
        raise NotRunning("No stack runs in this folder.")
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + timeout_seconds
    while owner(state) == process:
        if time.monotonic() > deadline:
            raise ProcessDied(f"The stack (process {process}) did not stop within {timeout_seconds:g} s.")
        time.sleep(POLL_SECONDS)
    return process


def _locks_soon(lock: Any) -> bool:
    """As `_locks`, tried a few times: somebody who only looks holds the lock for an instant."""
    for _ in range(5):
        if _locks(lock):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _locks(lock: Any) -> bool:
    """Takes the lock where it is free; it is held until the file is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(lock: Any) -> int | None:
    lock.seek(0)
    written = lock.read()
    return int(written) if written.isdecimal() else None
