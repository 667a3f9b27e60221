"""The worker, killed from inside at a named step of a window: `python -m tests.faults.worker_with_faults ARMS run …`.

The worker's code has no hooks for this: the classes it uses are wrapped here, in this process only. ARMS is a file. Once
it holds a line `STEP COUNT ACTION`, the process ends itself at the COUNT-th passage of that step from then on; ACTION is
`kill` (SIGKILL) or a number of seconds to stand still. The file is removed as the fault strikes, so one write is one fault.
SIGUSR1 makes it tell what it thinks (see witness) in the file of the same name that ends in `.opinion`.

With `--processes` nothing is wrapped in the parent: it starts this program for each of its processes, which all look into
ARMS, and passes SIGUSR1 on to them; each has a file of its own, with its process id in its name.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from threading import Timer
from typing import Any

from psutil import Process

import worker.child
import worker.processes.child
from tests.faults.witness import Witness
from worker.__main__ import main
from worker.cores import process_count
from worker.kafka.source import KafkaSource
from worker.pipeline.predicting import Predictor
from worker.settings import load

STEPS = ("poll", "predict", "begin", "first-send", "flush", "offsets", "commit-sent", "commit-acknowledged", "init")
"""In the order of a window; `init` comes before the first one and after each failed delivery."""
PROCESS = "process"
"""In the place of a command: this is one process of several; its Kafka client and its channel's descriptor follow."""

COMMIT_SENT_SECONDS = 0.002
"""From the call of a commit to a moment when librdkafka has sent it, and most often not been answered."""


class Trap:
    """Counts passages and strikes at the one that was asked for."""

    def __init__(self, arms: Path) -> None:
        self._arms = arms
        self._passed = 0
        self._sends = 0

    def passing(self, step: str) -> None:
        """Called at each step of each window."""
        try:
            armed, count, action = self._arms.read_text().split()
        except (FileNotFoundError, ValueError):
            return
        if armed != step:
            return
        self._passed += 1
        if self._passed < int(count):
            return
        self._passed = 0
        self._arms.unlink(missing_ok=True)
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(action))

    def install(self, client: str) -> None:
        """Wraps what the worker calls at each step, with that Kafka client."""
        self._after(KafkaSource, "poll", "poll", lambda window: window is not None)
        self._after(Predictor, "finish", "predict")
        CLIENTS[client](self)

    def _install_kafka_python(self) -> None:
        from kafka import KafkaProducer
        from kafka.producer.transaction_manager import EndTxnHandler

        self._after(KafkaProducer, "begin_transaction", "begin", self._first_of_a_transaction)
        self._after(KafkaProducer, "send", "first-send", self._is_first)
        self._after(KafkaProducer, "flush", "flush")
        self._after(KafkaProducer, "send_offsets_to_transaction", "offsets")
        self._after(KafkaProducer, "commit_transaction", "commit-acknowledged")
        self._after(KafkaProducer, "init_transactions", "init")
        # The broker has answered the commit and nobody here has read the answer yet.
        original = EndTxnHandler.handle_response

        def handle_response(handler: Any, response: Any) -> Any:
            self.passing("commit-sent")
            return original(handler, response)

        EndTxnHandler.handle_response = handle_response

    def _install_librdkafka(self) -> None:
        from worker.kafka.drivers import librdkafka
        from worker.kafka.drivers.librdkafka import Librdkafka
        from worker.kafka.drivers.librdkafka.producer import LibrdkafkaProducer

        class Watched(librdkafka.Producer):  # type: ignore[misc]  # the client's own class cannot be changed
            """The client that the driver makes from now on."""

        librdkafka.Producer = Watched  # type: ignore[misc]
        self._after(LibrdkafkaProducer, "begin", "begin", self._first_of_a_transaction)
        self._after(Watched, "produce", "first-send", self._is_first)
        self._after(LibrdkafkaProducer, "_flush", "flush")
        self._after(LibrdkafkaProducer, "send_offsets", "offsets")
        self._after(LibrdkafkaProducer, "commit", "commit-acknowledged")
        self._after(Librdkafka, "open_producer", "init")
        original = LibrdkafkaProducer.commit

        def commit(producer: Any) -> Any:
            """Nobody here sees the answer before the client does: the step is a moment while the commit is under way."""
            Timer(COMMIT_SENT_SECONDS, self.passing, ("commit-sent",)).start()
            return original(producer)

        LibrdkafkaProducer.commit = commit  # type: ignore[method-assign]

    def _after(
        self, owner: Any, method: str, step: str, counts: Callable[[Any], bool] = lambda _returned: True
    ) -> None:
        original = getattr(owner, method)

        @wraps(original)
        def wrapped(*args: Any, **options: Any) -> Any:
            returned = original(*args, **options)
            if counts(returned):
                self.passing(step)
            return returned

        setattr(owner, method, wrapped)

    def _first_of_a_transaction(self, _returned: Any) -> bool:
        self._sends = 0
        return True

    def _is_first(self, _returned: Any) -> bool:
        self._sends += 1
        return self._sends == 1


CLIENTS: dict[str, Callable[[Trap], None]] = {
    "kafka-python": Trap._install_kafka_python,
    "librdkafka": Trap._install_librdkafka,
}
"""For each driver, by its name, how the steps within its client are wrapped."""


def arm(arms: Path, step: str, count: int = 1, action: str = "kill") -> None:
    """For the test: sets the trap of a worker that runs, at once and whole."""
    waiting = arms.with_suffix(".new")
    waiting.write_text(f"{step} {count} {action}")
    waiting.rename(arms)


def _install(arms: Path, opinion: Path, client: str) -> None:
    Witness(opinion).install()
    Trap(arms).install(client)


def _start_with_faults(arms: Path, client: str) -> None:
    """Makes this process the parent of processes that can be killed at a step."""
    worker.processes.child.PROGRAM = ("-m", "tests.faults.worker_with_faults", str(arms), PROCESS, client)
    signal.signal(signal.SIGUSR1, lambda number, _frame: [one.send_signal(number) for one in Process().children()])


if __name__ == "__main__":
    own, words = Path(sys.argv[1]), sys.argv[2:]
    if words[0] == PROCESS:
        _install(own, own.with_name(f"{own.stem}-{os.getpid()}.opinion"), words[1])
        sys.exit(worker.child.main(int(words[2])))
    settings = load(words[1:])
    if process_count(settings.processes) > 1:
        _start_with_faults(own, settings.kafka_client)
    else:
        _install(own, own.with_suffix(".opinion"), settings.kafka_client)
    sys.exit(main(words))
