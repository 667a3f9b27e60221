"""Worlds for all fault tests but the random run, which has its own.

A run in one process has one; a parallel run has several, so that faults strike in some while others settle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.reviews import Reviews
from tests.faults.world import World

FOLDER = Path(__file__).parent
WORLDS = 3
"""In a parallel run; each is a broker, a model server and up to four workers."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sharing = [item for item in items if "world" in getattr(item, "fixturenames", ()) and item.path.parent == FOLDER]
    for number, item in enumerate(sharing):
        item.add_marker(pytest.mark.together(f"faults-{number % WORLDS}"))


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Broker, model server and proxies; the workers of its slots are started by whoever wants them."""
    with World(tmp_path_factory.mktemp("faults")) as world:
        yield world


@pytest.fixture(scope="package")
def reviews(world: World) -> Reviews:
    """A stream with some malformed records in it, and none that crash the model server."""
    return Reviews(0, world.models.by_remainder, malformed_share=0.01, poison_share=0)
