"""Which processes run, which wait to be started again, and what the end of one means for all.

Pure: it is given the time, and starts and stops nothing itself."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass
from enum import Enum, auto

from worker.backoff import Backoff
from worker.errors import ExitCode
from worker.records import Retry

STEADY_SECONDS = 60.0
"""A process that ran for this long has not failed in a row: the back-off begins anew."""

NEVER_MENDED = {
    ExitCode.USAGE,
    ExitCode.DEAD_LETTER_BRAKE,
    ExitCode.FENCED,
    ExitCode.OFFSETS_LOST,
    ExitCode.MODEL_MISMATCH,
    ExitCode.CONFIG,
}
"""Ends that no other start can mend: somebody has to look. All processes have the same settings, so all stop."""

FROM_BEST_TO_WORST = (
    ExitCode.OK,
    ExitCode.STOPPED_HARD,
    ExitCode.UNAVAILABLE,
    ExitCode.BUG,
    ExitCode.FENCED,
    ExitCode.OFFSETS_LOST,
    ExitCode.DEAD_LETTER_BRAKE,
    ExitCode.MODEL_MISMATCH,
    ExitCode.CONFIG,
    ExitCode.USAGE,
)


class Stage(Enum):
    """Where one process is."""

    WAITING = auto()
    """To be started, or started again."""
    UP = auto()
    OVER = auto()
    """Not to be started any more."""


@dataclass
class Place:
    """One process, whichever of its lives it is in."""

    stage: Stage = Stage.WAITING
    at: float = 0.0
    """When it is to be started, or was started, on the monotonic clock."""
    last_code: int = ExitCode.OK
    """How its last life ended: an exit code, or minus a signal's number."""
    failures: int = 0
    """Lives in a row that ended too soon."""
    restarts: int = 0


class Plan:
    """The state of all processes of one parent. Not thread-safe."""

    def __init__(
        self, count: int, backoff: Backoff, jitter: random.Random, *, bounded: bool, first_alone: bool
    ) -> None:
        """`bounded`: a process that ends with exit code 0 has done its part. `first_alone`: process 0 starts first, and the
        others once it has worked out the bounds of the run (`bounds_known`)."""
        self.places = [Place() for _ in range(count)]
        self.stopping = False
        """Nothing is started any more."""
        self._backoff = backoff
        self._jitter = jitter
        self._bounded = bounded
        self._first_alone = first_alone
        self._ever_ran = False

    def due(self, now: float) -> list[int]:
        """The processes to be started now."""
        return [number for number in self._startable() if self.places[number].at <= now]

    def wait_seconds(self, now: float) -> float | None:
        """How long until the next is due; None: not before something happens."""
        return min((max(0.0, self.places[number].at - now) for number in self._startable()), default=None)

    def started(self, number: int, now: float) -> None:
        """It was started."""
        place = self.places[number]
        place.stage, place.at = Stage.UP, now

    def bounds_known(self) -> None:
        """The others may be started."""
        self._first_alone = False

    def ran(self) -> None:
        """The start of one of them is over: from now on Kafka or a model server that is away is an outage."""
        self._ever_ran = True

    def ended(self, number: int, code: int, now: float) -> Retry | None:
        """It ended. Returns how it is tried again, if it is. Where its end is one for all, `stopping` is true afterwards."""
        place = self.places[number]
        long_ago = now - place.at >= STEADY_SECONDS
        place.last_code = code
        if self.stopping or self._final(code):
            place.stage = Stage.OVER
            if code != ExitCode.OK:
                self.stop()
            return None
        place.failures = 1 if long_ago else place.failures + 1
        place.restarts += 1
        delay_seconds = self._backoff.after(place.failures, self._jitter)
        place.stage, place.at = Stage.WAITING, now + delay_seconds
        detail = f"process {number} ended with {told(code)}"
        return Retry("process", told(code), place.failures, delay_seconds, detail)

    def stop(self) -> None:
        """What waits is not started any more; what runs is to be stopped by the caller."""
        self.stopping = True
        for place in self.places:
            if place.stage is Stage.WAITING:
                place.stage = Stage.OVER

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing will."""
        return all(place.stage is Stage.OVER for place in self.places)

    @property
    def exit_code(self) -> ExitCode:
        """The worst with which the last life of any process ended."""
        return max((_exit_code(place.last_code) for place in self.places), key=FROM_BEST_TO_WORST.index)

    def _startable(self) -> list[int]:
        waiting = [number for number, place in enumerate(self.places) if place.stage is Stage.WAITING]
        return [number for number in waiting if number == 0 or not self._first_alone]

    def _final(self, code: int) -> bool:
        if code == ExitCode.OK:
            return self._bounded
        return code in NEVER_MENDED or (code == ExitCode.UNAVAILABLE and not self._ever_ran)


def told(code: int) -> str:
    """How a process ended, for people: `config (78)`, `SIGKILL`."""
    if code < 0:
        return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{ExitCode(code).name.lower().replace('_', '-')} ({code})" if code in set(ExitCode) else f"exit code {code}"


def _exit_code(code: int) -> ExitCode:
    """An exit code of ours for an end of any kind."""
    if code in (-signal.SIGTERM, -signal.SIGINT):
        return ExitCode.OK  # before it had a handler for them, so nothing was in flight
    if code < 0:
        return ExitCode.STOPPED_HARD
    return ExitCode(code) if code in set(ExitCode) else ExitCode.BUG
