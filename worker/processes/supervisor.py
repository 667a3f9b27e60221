"""The parent of several worker processes.

One thread owns everything here and takes one event after another from a queue, into which a thread for each process puts
what the process says and how it ended. The HTTP port's threads read a snapshot."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

import structlog
from pydantic import SecretStr

from worker.backoff import Backoff
from worker.channel import Begin, Bounds, FromProcess, Port, Running, Stop, Summary, ToProcess
from worker.errors import ExitCode
from worker.observability import open_port
from worker.observability.continued import Continued
from worker.observability.gathering import Gathering, ProcessStatus
from worker.ports import Clock
from worker.processes.child import Child
from worker.processes.plan import Plan, Stage, told
from worker.run_bounds import Edge
from worker.settings import Settings

CLOSING_SECONDS = 30.0
"""What a process may take beyond its time to drain, before it is killed: its goodbye to brokers that do not answer."""


class Process(Protocol):
    """What the parent needs of a process that runs; see child.Child."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def send(self, message: ToProcess) -> None:
        """Says something to it."""

    def kill(self) -> None:
        """SIGKILL."""

    def let_go(self) -> None:
        """Ends the channel to it."""


class Start(Protocol):
    """Starts a process; see child.Child."""

    def __call__(self, begin: Begin, *, heard: Callable[[FromProcess], None], ended: Callable[[int], None]) -> Process:
        """See child.Child."""


class Heard(NamedTuple):
    """A process said something."""

    number: int
    message: FromProcess


class Ended(NamedTuple):
    """A process ended."""

    number: int
    code: int


Event = Heard | Ended | Stop


class Supervisor:
    """Keeps `count` workers running. `run`, and `stop` from any thread."""

    def __init__(self, settings: Settings, count: int, clock: Clock, *, start: Start = Child) -> None:
        self._settings = settings
        self._clock = clock
        self._start = start
        self._bounds = {"start": settings.start, "until": settings.until}
        bounded = settings.until != ""
        self._plan = Plan(
            count,
            Backoff(settings.retry_delay_seconds, settings.max_retry_delay_seconds),
            random.Random(),  # noqa: S311  jitter
            bounded=bounded,
            # Where to start and to end is worked out once: later the topic has other ends, and the group has members.
            first_alone=bounded or settings.start != Edge.COMMITTED,
        )
        self._running: dict[int, Process] = {}
        self._ports: dict[int, int] = {}
        self._summaries: dict[int, Summary] = {}
        self._kill_at: float | None = None
        self._events: SimpleQueue[Event] = SimpleQueue()
        self.statuses: tuple[ProcessStatus, ...] = ()
        """What is known of each process, in order. Never changed, only replaced: other threads read it."""
        self._log = structlog.get_logger("worker")
        self._tell_statuses()

    def stop(self, *, hard: bool = False) -> None:
        """Ends `run` once every process has ended: softly, or hard, giving up what is in flight. Never blocks."""
        self._events.put(Stop(hard))

    def run(self) -> ExitCode:
        """Serves the port, starts the processes, and returns the worst exit code when all are over.

        Raises ConfigError when the port cannot be opened."""
        settings = self._settings
        with ExitStack() as closing:
            self._open_port(closing)
            closing.callback(self._let_go)
            began = self._clock.monotonic()
            while not self._plan.over:
                self.go_on()
                self.wait()
        if settings.until:
            self._log.info("summary", seconds=round(self._clock.monotonic() - began, 1), **self.summary())
        return self._plan.exit_code

    def _open_port(self, closing: ExitStack) -> None:
        gathered = Gathering(lambda: self.statuses)
        open_port(
            self._settings,
            gathered.registry,
            gathered.dead,
            gathered.unready,
            collect=Continued(gathered.registry.collect).collect,
            clock=self._clock,
            closing=closing,
            apart=True,
        )

    def go_on(self) -> None:
        """Starts and kills what is due now."""
        now = self._clock.monotonic()
        for number in self._plan.due(now):
            self._launch(number)
        if self._kill_at is not None and self._kill_at <= now:
            self._kill_overdue()
        self._tell_statuses()

    def wait(self) -> None:
        """Waits for the next event and takes note of it, or until something is due."""
        now = self._clock.monotonic()
        waits = [self._plan.wait_seconds(now), None if self._kill_at is None else max(0.0, self._kill_at - now)]
        with suppress(Empty):
            self._take(self._events.get(timeout=min((wait for wait in waits if wait is not None), default=None)))
        self._tell_statuses()

    def summary(self) -> Mapping[str, object]:
        """A bounded run as a whole. What a process that was killed had answered before is not in the figures."""
        results: Counter[str] = Counter()
        dead_letters: Counter[str] = Counter()
        for summary in self._summaries.values():
            results.update(summary.results)
            dead_letters.update(summary.dead_letters)
        return {
            "complete": len(self._summaries) == len(self._plan.places)
            and all(summary.complete for summary in self._summaries.values()),
            "results": dict(results),
            "dead_letters": dict(dead_letters),
            "restarts": sum(place.restarts for place in self._plan.places),
        }

    def _let_go(self) -> None:
        """What still runs stops by itself."""
        for process in self._running.values():
            process.let_go()

    def _launch(self, number: int) -> None:
        self._plan.started(number, self._clock.monotonic())
        begin = Begin(number, own_settings(self._settings, number) | self._bounds)
        process = self._running[number] = self._start(
            begin,
            heard=lambda message: self._events.put(Heard(number, message)),
            ended=lambda code: self._events.put(Ended(number, code)),
        )
        self._log.info("process started", number=number, pid=process.pid)

    def _take(self, event: Event) -> None:
        match event:
            case Stop(hard):
                self._stop(hard=hard)
            case Ended(number, code):
                self._ended(number, code)
            case Heard(number, Port(port)):
                self._ports[number] = port
            case Heard(_, Running()):
                self._plan.ran()
            case Heard(_, Bounds(until)):
                self._take_bounds(until)
            case Heard(number, Summary() as summary):
                self._summaries[number] = summary

    def _take_bounds(self, until: Mapping[int, int] | None) -> None:
        ends = "" if until is None else ",".join(f"{partition}:{offset}" for partition, offset in until.items())
        self._bounds = {"start": Edge.COMMITTED.value, "until": ends}
        self._plan.bounds_known()

    def _ended(self, number: int, code: int) -> None:
        del self._running[number]
        self._ports.pop(number, None)
        stopping = self._plan.stopping
        retry = self._plan.ended(number, code, self._clock.monotonic())
        if retry is not None:
            self._log.warning("trying again", **retry.told)
            return
        self._log.info("process ended", number=number, code=told(code))
        if self._plan.stopping and not stopping:
            self._log.error("all processes stop: a new start would not help", number=number, code=told(code))
            self._stop(hard=False)

    def _stop(self, *, hard: bool) -> None:
        self._plan.stop()
        for process in self._running.values():
            process.send(Stop(hard))
        grace_seconds = CLOSING_SECONDS + (0 if hard else self._settings.drain_seconds)
        self._kill_at = min(self._kill_at or float("inf"), self._clock.monotonic() + grace_seconds)

    def _kill_overdue(self) -> None:
        self._kill_at = None
        for number, process in self._running.items():
            self._log.error("process killed: it did not end in time", number=number, pid=process.pid)
            process.kill()

    def _tell_statuses(self) -> None:
        self.statuses = tuple(map(self._status, range(len(self._plan.places))))

    def _status(self, number: int) -> ProcessStatus:
        place = self._plan.places[number]
        if place.stage is Stage.UP:
            what = "is starting"
        elif place.restarts and place.stage is Stage.WAITING:
            what = f"ended with {told(place.last_code)} and is started again"
        elif place.stage is Stage.OVER:
            what = f"has ended with {told(place.last_code)}"
        else:
            what = "waits to be started"
        finished = place.stage is Stage.OVER and place.last_code == ExitCode.OK and not self._plan.stopping
        return ProcessStatus(str(number), self._ports.get(number), place.restarts, what, finished=finished)


def own_settings(settings: Settings, number: int) -> dict[str, object]:
    """The settings of one process: an identity of its own in Kafka, the same in each of its lives, and a port that only this
    machine reaches. Secrets are in it as they are: it is for that process alone, and for no log."""
    values = ((name, getattr(settings, name)) for name in type(settings).model_fields)
    revealed = {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values}
    return revealed | {
        "processes": "1",
        "transactional_id": f"{settings.producer_id}-{number}",
        "instance_id": settings.instance_id and f"{settings.instance_id}-{number}",
        "client_id": f"{settings.client_id}-{number}",
        "metrics_host": "127.0.0.1",
        "metrics_port": 0,
        # The parent asks in the clear, over the loopback address; what it passes on is guarded as the settings say.
        "metrics_cert_file": "",
        "metrics_key_file": "",
        "metrics_token_file": "",
    }
