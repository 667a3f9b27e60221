"""The one HTTP port of several processes: their metrics, the probes of the whole, and the status page of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from threading import Event, Thread

from worker.observability import About, Health, StatusPage
from worker.observability.continued import Continued
from worker.observability.gathering import Gathering, ProcessStatus
from worker.ports import Clock
from worker.settings import Settings

TICK_SECONDS = 1.0
"""How often the page looks whether its history needs a sample."""


def open_port(
    settings: Settings, statuses: Callable[[], Sequence[ProcessStatus]], clock: Clock, closing: ExitStack
) -> int:
    """Serves until `closing` is closed; returns the port bound. Raises ConfigError when it cannot be opened."""
    gathered = Gathering(statuses)
    page = StatusPage(
        Continued(gathered.registry.collect).collect,
        About.of(settings.redacted()),
        live=gathered.dead,
        ready=gathered.unready,
        clock=clock,
    )
    health = Health(
        settings.metrics_host,
        settings.metrics_port,
        gathered.registry,
        gathered.dead,
        gathered.unready,
        pages=page.routes,
        tls=settings.metrics_tls(),
        token=settings.metrics_token if settings.metrics_token_file else None,
    )
    port = health.start()
    closing.callback(health.close)
    closed = Event()

    def sample() -> None:
        # On a thread of its own: a process that hangs keeps a sample waiting, and must not keep a probe waiting.
        while not closed.wait(TICK_SECONDS):
            page.tick()

    Thread(target=sample, name="history", daemon=True).start()
    closing.callback(closed.set)
    return port
