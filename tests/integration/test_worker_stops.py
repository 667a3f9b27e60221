"""How the worker ends, and how the next one goes on where it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.faults.faulty_server import FaultyServer, Mood
from tests.integration.conftest import MakeWorld
from tests.support.harness import review_json, wait_for
from tests.support.model_server import ServerAddress
from tests.support.worker_world import Load, World, delivered, some_reviews, started, total

pytestmark = pytest.mark.lasts(12)

SMALL_WINDOWS = {"window_records": 40, "batch_rows": 16}


def test_sigterm_under_load_finishes_what_is_in_flight_and_nothing_else(world: World) -> None:
    with Load(world):
        worker = world.worker(**SMALL_WINDOWS, drain_seconds=20)
        wait_for(lambda: delivered(worker) > 200, 60, "results")
        worker.terminate()
        assert worker.wait() == 0
        world.assert_nothing_half_done()
        assert len(world.results()) > 200
    world.worker()
    world.assert_each_once()
    world.assert_in_order()


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_in_the_middle_loses_nothing(world: World, delivery: str, number: signal.Signals) -> None:
    settings = {**SMALL_WINDOWS, "delivery": delivery}
    with Load(world):
        for _ in range(2):
            worker = world.worker(**settings)
            wait_for(lambda worker=worker: delivered(worker) > 80, 60, "results")
            if number is signal.SIGTERM:
                assert worker.stop() == 0
            else:
                worker.kill()
    world.worker(**settings)
    if delivery == "exactly-once":
        world.assert_each_once()
        world.assert_in_order()
    else:
        world.assert_none_lost()
    assert world.dead_letters() == {}


@pytest.fixture
def front(model_server: ServerAddress) -> Iterator[FaultyServer]:
    """Stands before the shared model server, and says nothing in the mood HUNG."""
    with closing(FaultyServer(model_server.grpc_target)) as front:
        yield front


@pytest.fixture
def fronted(front: FaultyServer, make_world: MakeWorld) -> World:
    return make_world(serving=f"127.0.0.1:{front.port}")


def test_a_second_sigterm_stops_at_once(fronted: World, front: FaultyServer) -> None:
    worker = fronted.worker(drain_seconds=300, request_timeout_seconds=50).wait_ready()
    front.mood = Mood.HUNG
    fronted.push(map(review_json, some_reviews(20)))
    wait_for(lambda: total(worker, "inferry_windows_in_flight") > 0, 30, "a window in flight")
    worker.terminate()
    wait_for(lambda: '"draining"' in worker.log, 30, "the drain")
    assert worker.exit_code is None, "it waits for what is in flight"
    worker.terminate()
    assert worker.wait() == 3
    fronted.assert_nothing_half_done()
    front.mood = Mood.WELL
    fronted.worker()
    fronted.assert_each_once()


def test_what_outlasts_the_drain_time_is_left_to_the_next_worker(fronted: World, front: FaultyServer) -> None:
    worker = fronted.worker(drain_seconds=1, request_timeout_seconds=50).wait_ready()
    front.mood = Mood.HUNG
    fronted.push(map(review_json, some_reviews(20)))
    wait_for(lambda: total(worker, "inferry_windows_in_flight") > 0, 30, "a window in flight")
    worker.terminate()
    assert worker.wait() == 3
    assert fronted.results() == []
    front.mood = Mood.WELL
    fronted.worker()
    fronted.assert_each_once()


def test_an_idle_worker_stops_too(world: World) -> None:
    worker = world.worker().wait_ready()
    assert not started(worker)
    os.kill(worker.pid, signal.SIGINT)
    assert worker.wait() == 0
