"""One world for all fault tests but the random run, which has its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.reviews import Reviews
from tests.faults.world import World


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Broker, model server and proxies; the workers of its slots are started by whoever wants them."""
    with World(tmp_path_factory.mktemp("faults")) as world:
        yield world


@pytest.fixture(scope="package")
def reviews(world: World) -> Reviews:
    """A stream with some malformed records in it, and none that crash the model server."""
    return Reviews(0, world.models.by_remainder, malformed_share=0.01, poison_share=0)
