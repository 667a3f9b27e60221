"""Input topics whose batches are compressed, with each codec that Kafka has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import MakeWorld
from tests.integration.test_worker_start import last_words
from tests.support.harness import review_json
from tests.support.worker_world import some_reviews
from worker.errors import ExitCode

MODULES = {"snappy": "snappy", "lz4": "lz4", "zstd": "zstandard"}
"""By codec, what the extra `compression` installs and the client imports for it."""


@pytest.fixture
def lean(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker that was installed without the extra."""
    folder = tmp_path / "lean"
    folder.mkdir()
    for module in MODULES.values():
        (folder / f"{module}.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("codec", ["gzip", *MODULES])
def test_reviews_in_compressed_batches_are_answered(make_world: MakeWorld, codec: str) -> None:
    """librdkafka has them all built in: see the contract suite."""
    world = make_world(partitions=1)
    world.push(map(review_json, some_reviews(200, seed=1)), partition=0, compression_type=codec)
    worker = world.worker()
    world.assert_each_once()
    assert world.dead_letters() == {}
    assert worker.stop() == 0


@pytest.mark.parametrize("codec", MODULES)
def test_without_the_extra_a_worker_ends_and_names_the_codec(
    make_world: MakeWorld, lean: dict[str, str], codec: str
) -> None:
    """And so the batches above do reach the worker compressed."""
    world = make_world(partitions=1)
    world.push(map(review_json, some_reviews(20)), partition=0, compression_type=codec)
    worker = world.worker(environment=lean)
    assert worker.wait() == ExitCode.UNAVAILABLE
    assert codec in last_words(worker)
    assert world.committed() == {}
    assert world.visible_answers() == {}


def test_gzip_needs_no_extra(make_world: MakeWorld, lean: dict[str, str]) -> None:
    world = make_world(partitions=1)
    world.push(map(review_json, some_reviews(20)), partition=0, compression_type="gzip")
    world.worker(environment=lean)
    world.assert_each_once()
    assert world.dead_letters() == {}
