"""What many tests need: the real broker, fresh topics on it, the real model server.

The heavy parts start once a run, however many processes it has (see `tests.support.parallel`), and only when a test asks
for them.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import settings

from deploy.local.broker import Broker
from tests.support.model_server import ServerAddress
from tests.support.shared_servers import KEY

pytest_plugins = ["tests.support.parallel"]

# No test is timed. In CI every run tries the same examples, so that a change is judged by what it changed; everywhere
# else each run tries new ones.
settings.register_profile("everywhere", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "everywhere")


class MakeTopics(Protocol):
    """Creates topics nobody else uses and returns their real names, in the order asked for."""

    def __call__(self, *names: str, partitions: int = 3) -> list[str]: ...


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's own folder, the same in each of its processes."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config, shared_folder: Path) -> Broker:
    """Apache Kafka itself; `broker.bootstrap` is its address. Shared by tests that run at the same time: one that stops it
    starts its own Broker, and each uses topics and groups of its own."""
    return pytestconfig.stash[KEY].broker(shared_folder / "kafka")


@pytest.fixture
def topics(broker: Broker) -> MakeTopics:
    """`reviews, labels, dead = topics()` or `[one] = topics("one", partitions=1)`."""
    return lambda *names, partitions=3: create_topics(broker.bootstrap, *names, partitions=partitions)


def create_topics(bootstrap: str, *names: str, partitions: int = 3) -> list[str]:
    """Topics with fresh names that begin with `names` (default: reviews, labels and dead letters)."""
    from kafka import KafkaAdminClient

    suffix = uuid.uuid4().hex[:8]
    fresh = [f"{name}-{suffix}" for name in names or ("reviews", "review-labels", "reviews-dead-letter")]
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        wanted = {name: {"num_partitions": partitions, "replication_factor": 1} for name in fresh}
        admin.create_topics(wanted, wait_for_metadata=True)
    finally:
        admin.close()
    return fresh


@pytest.fixture(scope="session")
def model_base_path(shared_folder: Path) -> Path:
    """A base path with version 1 of a small real model. Shared as the broker is; made by the first that asks."""
    from tests.support.models import export_tiny

    base_path = shared_folder / "models" / "sentiment_classifier"
    base_path.mkdir(parents=True, exist_ok=True)
    with (shared_folder / "models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base_path / "1").exists():
            export_tiny(base_path, version=1)
    return base_path


@pytest.fixture(scope="session")
def model_server(pytestconfig: pytest.Config, model_base_path: Path) -> ServerAddress:
    """The real model server over `model_base_path`. Shared as the broker is: a test that stops it starts its own."""
    return pytestconfig.stash[KEY].model_server(model_base_path)
