"""What state the worker is in, and why. The one owner: components say what keeps them, the state follows from it.

`stopped` and `draining` stand above `holding`, `holding` above `running`: an outage that begins or ends during a drain
changes nothing that anybody sees.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, StrEnum
from threading import Lock


class Phase(IntEnum):
    """How far the worker's life has come. It only goes forward."""

    STARTING = 0
    RUNNING = 1
    DRAINING = 2
    STOPPED = 3


class Component(StrEnum):
    """Who may keep the worker from answering."""

    MODEL = "model"
    """No usable version is served."""
    PREDICTION = "prediction"
    """A batch waits for the model server."""
    KAFKA = "kafka"
    """The brokers do not answer."""


HOLDING = "holding"


class WorkerState:
    """Thread-safe. `tell(state, detail)` is called when the state or its reason has changed, in that order, one call at a
    time: `ports.Events.state`."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._lock = Lock()
        self._phase = Phase.STARTING
        self._reasons: dict[Component, str] = {}
        self._told = ("", "")
        self._changed()

    def enter(self, phase: Phase) -> None:
        """Goes on to a phase; one that is over already is ignored."""
        with self._lock:
            self._phase = max(self._phase, phase)
            self._changed()

    def hold(self, component: Component, why: str) -> None:
        """This component cannot go on, for the reason in the sentence `why`; the latest sentence counts."""
        with self._lock:
            self._reasons[component] = why
            self._changed()

    def release(self, component: Component) -> None:
        """This component can go on. Idempotent."""
        with self._lock:
            self._reasons.pop(component, None)
            self._changed()

    def _changed(self) -> None:
        now = (self._phase.name.lower(), "")
        if self._phase is Phase.RUNNING and self._reasons:
            now = (HOLDING, " ".join(self._reasons[component] for component in Component if component in self._reasons))
        if now != self._told:
            self._told = now
            self._tell(*now)
