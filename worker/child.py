"""One worker of several: `python -m worker.child DESCRIPTOR`, started by worker.processes and by nobody else.

DESCRIPTOR is the number of an inherited socket. Over it come identity, settings and stops. It ends when the parent dies, and
then this process ends too (see worker.channel)."""

from __future__ import annotations

import os
import socket
import sys
from threading import Thread, Timer

from worker.__main__ import run_worker
from worker.channel import Begin, Channel, Stop
from worker.errors import ExitCode, WorkerError
from worker.settings import Settings
from worker.signals import StopWorker, on_soft_stop_signals

ORPHAN_SECONDS = 5.0
"""What a process whose parent has died may take for its goodbye: by then another parent may have started others."""


def main(descriptor: int) -> int:
    """Runs one worker and returns its exit code."""
    channel = Channel(socket.socket(fileno=descriptor))
    said = channel.to_process()
    begin = next(said, None)
    if not isinstance(begin, Begin):  # the parent died before it said anything
        return ExitCode.STOPPED_HARD

    def obey(stop: StopWorker) -> None:
        for message in said:
            if isinstance(message, Stop):
                stop(hard=message.hard)
        last_resort = Timer(ORPHAN_SECONDS, os._exit, [ExitCode.STOPPED_HARD])
        last_resort.daemon = True
        last_resort.start()
        stop(hard=True)

    def listen(stop: StopWorker) -> None:
        # Softly each time: the same signal may come from the parent and from whoever signals every process there is.
        on_soft_stop_signals(stop)
        Thread(target=obey, args=(stop,), name="parent", daemon=True).start()

    try:
        return run_worker(Settings(**begin.settings), listen, channel.send, process=str(begin.process))
    except WorkerError as error:
        print(f"inferry-worker: process {begin.process}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
