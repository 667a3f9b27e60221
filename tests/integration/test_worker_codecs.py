"""Input topics whose batches are compressed, with each codec that Kafka has."""

from __future__ import annotations

import pytest

from tests.harness import review_json
from tests.integration.conftest import MakeWorld
from tests.integration.worker_world import some_reviews


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_reviews_in_compressed_batches_are_answered(make_world: MakeWorld, codec: str) -> None:
    world = make_world(partitions=1)
    world.push(map(review_json, some_reviews(200, seed=1)), partition=0, compression_type=codec)
    worker = world.worker()
    world.assert_each_once()
    assert world.dead_letters() == {}
    assert worker.stop() == 0
