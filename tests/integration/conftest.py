"""What the worker's integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from deploy.local.broker import Broker
from tests.support.model_server import ServerAddress
from tests.support.models import TinyModel
from tests.support.worker_world import World
from trainer.card import card_of
from worker.kafka.drivers import DEFAULT, MAKERS
from worker.text import Vocabulary


class MakeWorld(Protocol):
    """Makes a world on the shared broker and model server, or on those named."""

    def __call__(
        self, *, bootstrap: str = "", serving: str = "", partitions: int = 3, output_partitions: int | None = None
    ) -> World: ...


both_clients = pytest.mark.parametrize("kafka_client", MAKERS, indirect=True)
"""The test runs once with each Kafka client in its workers; all others run with the default one."""
deliveries_and_clients = pytest.mark.parametrize(
    ("delivery", "kafka_client"),
    [("exactly-once", DEFAULT), ("at-least-once", DEFAULT), ("exactly-once", "librdkafka")],
    indirect=["kafka_client"],
)
"""Both deliveries with the default client, and the harder one with the other: what the clients do differently in the easier
one, the contract suite shows for less."""


@pytest.fixture
def kafka_client(request: pytest.FixtureRequest) -> str:
    """The Kafka client of the workers."""
    return getattr(request, "param", DEFAULT)


@pytest.fixture
def make_world(request: pytest.FixtureRequest, tmp_path: Path, kafka_client: str) -> Iterator[MakeWorld]:
    worlds: list[World] = []

    def make(
        *, bootstrap: str = "", serving: str = "", partitions: int = 3, output_partitions: int | None = None
    ) -> World:
        folder = tmp_path / f"world-{len(worlds)}"
        folder.mkdir()
        broker: Broker | None = None if bootstrap else request.getfixturevalue("broker")
        server: ServerAddress | None = None if serving else request.getfixturevalue("model_server")
        made = World(
            broker.bootstrap if broker else bootstrap,
            server.grpc_target if server else serving,
            folder,
            partitions=partitions,
            output_partitions=output_partitions,
            kafka_client=kafka_client,
        )
        worlds.append(made)
        return made

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


@pytest.fixture(scope="session")
def tiny_model(model_base_path: Path) -> TinyModel:
    """What the shared model server serves, to be run without it."""
    path = model_base_path / "1"
    vocabulary = Vocabulary.parse((path / "assets.extra" / "vocabulary.subwords").read_bytes())
    return TinyModel(path, vocabulary, 1, card_of(vocabulary, threshold=0.6, max_tokens=4096))
