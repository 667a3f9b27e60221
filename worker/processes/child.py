"""One process as its parent sees it: started as a fresh interpreter, spoken to over its channel, watched until it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread

from worker.channel import Begin, Channel, FromProcess, ToProcess

PROGRAM: Sequence[str] = ("-m", "worker.child")
"""What Python runs in a process; the number of its channel's file descriptor follows."""


class Child:
    """Started when it is made. Thread-safe."""

    def __init__(
        self,
        begin: Begin,
        *,
        heard: Callable[[FromProcess], None],
        ended: Callable[[int], None],
        program: Sequence[str] = (),
    ) -> None:
        """`program` is what Python runs, `PROGRAM` by default. `heard` takes all that it says, then `ended` its exit code,
        or minus the number of the signal that ended it; both on a thread of this child's own."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", *(program or PROGRAM), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                # A terminal's Ctrl-C reaches the parent alone, which passes it on once.
                process_group=0,
            )
        self._channel = Channel(ours)
        self._channel.send(begin)
        Thread(target=self._watch, args=(heard, ended), name=f"process-{begin.process}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def send(self, message: ToProcess) -> None:
        """Says it; nobody hears it when the process has ended."""
        self._channel.send(message)

    def kill(self) -> None:
        """SIGKILL. Does nothing when it has ended."""
        self._popen.kill()

    def let_go(self) -> None:
        """Closes the channel: to the process it is as if the parent had died."""
        self._channel.close()

    def _watch(self, heard: Callable[[FromProcess], None], ended: Callable[[int], None]) -> None:
        for message in self._channel.from_process():
            heard(message)
        code = self._popen.wait()
        self._channel.close()
        ended(code)


def _environment() -> dict[str, str]:
    """Ours, without settings: those come over the channel. Modules are found where this process finds them (`-P` leaves out
    the working directory, where anything may lie)."""
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INFERRY_")}
    return {**kept, "PYTHONPATH": paths}
