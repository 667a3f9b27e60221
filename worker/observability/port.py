"""The one HTTP port of a worker, or of several: metrics, probes and the status page, as the settings guard them."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Event, Thread

import structlog
from prometheus_client import CollectorRegistry

from worker.observability.continued import Collect
from worker.observability.health import Check, Health
from worker.observability.status import About, StatusPage
from worker.ports import Clock
from worker.settings import Settings

TICK_SECONDS = 1.0
"""How often a page that samples on a thread of its own looks whether its history needs a sample."""


def open_port(
    settings: Settings,
    registry: CollectorRegistry,
    live: Check,
    ready: Check,
    *,
    collect: Collect,
    clock: Clock,
    closing: ExitStack,
    apart: bool = False,
) -> int:
    """Serves until `closing` is closed; returns the port bound. `collect` gives the page its figures, `registry` /metrics.

    `apart`: collecting may wait, for a process that hangs, so the page's history is sampled on a thread of its own, which
    keeps no probe waiting. Raises ConfigError when the port cannot be opened."""
    page = StatusPage(collect, About.of(settings.redacted()), live=live, ready=ready, clock=clock)
    health = Health(
        settings.metrics_host,
        settings.metrics_port,
        registry,
        live,
        ready,
        pages=page.routes,
        tick=_nothing if apart else page.tick,
        tls=settings.metrics_tls(),
        token=settings.metrics_token if settings.metrics_token_file else None,
    )
    port = health.start()
    closing.callback(health.close)
    if apart:
        _sample_apart(page, closing)
    structlog.get_logger("worker").info("metrics and health", url=settings.metrics_url(port))
    return port


def _nothing() -> None:
    """Instead of the page's tick."""


def _sample_apart(page: StatusPage, closing: ExitStack) -> None:
    closed = Event()

    def sample() -> None:
        while not closed.wait(TICK_SECONDS):
            page.tick()

    Thread(target=sample, name="history", daemon=True).start()
    closing.callback(closed.set)
