"""The broker and the model server that a whole run shares, however many processes it has.

They belong to the process that lives longest: the one that started the run. The others ask it for them over a socket, and
the first who asks has them started; nobody asks, nothing starts. The owner stops them at its end, after Ctrl-C too; if it
is killed outright, the kernel kills them (see `deploy.local.tether`).
"""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Protocol

import pytest

from deploy.local.broker import Broker
from tests.support.model_server import ServerAddress, running_model_server


class Servers(Protocol):
    """How a test process gets at the shared servers. Both block until the server is ready. What the first who asks names is
    what counts: the broker's folder, the model server's base path."""

    def broker(self, folder: Path) -> Broker: ...

    def model_server(self, base_path: Path) -> ServerAddress: ...

    def close(self) -> None: ...


ATTEMPTS = 2
"""pytest keeps a shared fixture's failure for the rest of a process: one server that starts too slowly on a busy machine, or
one download that is cut, would fail every test that needs it."""
KEY = pytest.StashKey[Servers]()
Units = dict[str, tuple[str, float]]
"""By test: the name of its unit, and about how many seconds it takes; see `tests.support.parallel`."""


class Owned:
    """The servers themselves, in the process that started the run."""

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(1)
        """Starts them one after another. The kernel ends a tethered process with the thread that started it."""
        self._running = ExitStack()
        self._started: dict[str, list[str]] = {}
        self._listener: Listener | None = None
        self.units: Units = {}
        """As the processes that run tests tell it: this one collects none."""

    def broker(self, folder: Path) -> Broker:
        return _broker(self._get("broker", str(folder)))

    def model_server(self, base_path: Path) -> ServerAddress:
        return ServerAddress(*self._get("model_server", str(base_path)))

    def close(self) -> None:
        """Stops what was started."""
        if self._listener is not None:
            self._listener.close()
        self._starter.submit(self._running.close).result()
        self._starter.shutdown()

    def listen(self) -> str:
        """Begins to answer other processes; returns where they ask."""
        if self._listener is None:
            self._listener = Listener(family="AF_UNIX", backlog=64)
            threading.Thread(target=self._answer_all, name="shared-servers", daemon=True).start()
        address = self._listener.address
        assert isinstance(address, str)
        return address

    def _answer_all(self) -> None:
        assert self._listener is not None
        with suppress(OSError):  # closed
            while True:
                threading.Thread(target=self._answer, args=(self._listener.accept(),), daemon=True).start()

    def _answer(self, asking: Connection) -> None:
        with asking, suppress(EOFError, OSError):
            try:
                told = {"is": self._reply(*json.loads(asking.recv_bytes()))}
            except Exception as error:  # noqa: BLE001  whoever asks has to be told
                told = {"failed": [f"{type(error).__name__}: {error}"]}
            asking.send_bytes(json.dumps(told).encode())

    def _reply(self, about: str, *arguments: Any) -> list[str]:
        if about == "units":
            self.units = {test: (unit, seconds) for test, (unit, seconds) in arguments[0].items()}
            return []
        return self._get(about, *arguments)

    def _get(self, name: str, *arguments: str) -> list[str]:
        return self._starter.submit(self._start, name, *arguments).result()

    def _start(self, name: str, *arguments: str) -> list[str]:
        start = {"broker": self._start_broker, "model_server": self._start_model_server}[name]
        for left in reversed(range(ATTEMPTS)):
            if name in self._started:
                break
            try:
                self._started[name] = start(*arguments)
            except Exception as error:
                if not left:
                    raise
                print(f"the shared {name} did not start and is tried again: {error}", file=sys.stderr)
        return self._started[name]

    def _start_broker(self, folder: str) -> list[str]:
        broker = Broker(Path(folder))
        self._running.callback(broker.stop)
        broker.start()
        return [folder, str(broker.port)]

    def _start_model_server(self, base_path: str) -> list[str]:
        server = self._running.enter_context(running_model_server(Path(base_path)))
        return [server.grpc_target, server.rest_url]


class Borrowed:
    """In a process that runs tests: asks the owner at `address`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def broker(self, folder: Path) -> Broker:
        return _broker(self._ask("broker", str(folder)))

    def model_server(self, base_path: Path) -> ServerAddress:
        return ServerAddress(*self._ask("model_server", str(base_path)))

    def tell(self, units: Units) -> None:
        """What stays together; every process finds the same."""
        self._ask("units", units)

    def close(self) -> None:
        """Nothing here is its own."""

    def _ask(self, *question: Any) -> list[str]:
        with Client(self._address, family="AF_UNIX") as owner:
            owner.send_bytes(json.dumps(question).encode())
            told: dict[str, list[str]] = json.loads(owner.recv_bytes())
        if "failed" in told:
            raise RuntimeError(f"{question[0]}: {told['failed'][0]}")
        return told["is"]


def _broker(told: list[str]) -> Broker:
    """Knows its address, and has no process that a test could stop."""
    folder, port = told
    return Broker(Path(folder), int(port))
