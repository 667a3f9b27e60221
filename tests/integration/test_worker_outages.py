"""An outage costs no review: the worker holds, stays in its group, says so, and goes on by itself."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.broker import Broker
from deploy.local.ports import free_ports
from tests.integration.conftest import MakeWorld, deliveries_and_clients
from tests.support.harness import WorkerProcess, wait_for
from tests.support.model_server import running_model_server
from tests.support.worker_world import Load, World, delivered, logged, state, total

# kafka-python, with which these tests feed the worker, leaves the sockets of refused connections to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"), pytest.mark.lasts(25)]

OUTAGE_SECONDS = 10
SMALL_WINDOWS = {"window_records": 40, "batch_rows": 16}


def test_the_model_server_may_be_away_for_ten_seconds(make_world: MakeWorld, model_base_path: Path) -> None:
    grpc_port, rest_port = free_ports(2)
    world = make_world(serving=f"127.0.0.1:{grpc_port}")
    with Load(world):
        with running_model_server(model_base_path, ports=(grpc_port, rest_port)) as server:
            # Without polls the group would give its partitions away well within the outage.
            worker = world.worker(**SMALL_WINDOWS, max_poll_interval_seconds=7)
            wait_for(lambda: delivered(worker) > 100, 60, "results")
            server.kill()
            wait_for(lambda: state(worker) == "holding", 30, "the worker's notice")
            status, why = worker.get("/readyz")
            assert status == 503
            assert "holding" in why
            assert "UNAVAILABLE" in why
            time.sleep(OUTAGE_SECONDS)
            assert worker.get("/readyz")[0] == 503
            assert worker.get("/livez")[0] == 200, "a restart of the worker would not help"
            before = delivered(worker)
        with running_model_server(model_base_path, ports=(grpc_port, rest_port)):
            worker.wait_ready()
            assert state(worker) == "running"
            wait_for(lambda: delivered(worker) > before + 100, 60, "results")
            assert_never_left_the_group(worker)
            assert total(worker, "inferry_retries_total") > 0
            assert worker.stop() == 0
    with running_model_server(model_base_path, ports=(grpc_port, rest_port)):
        world.worker()
        world.assert_each_once()
        world.assert_in_order()
        assert world.dead_letters() == {}


def assert_never_left_the_group(worker: WorkerProcess) -> None:
    assert len(logged(worker, "partitions changed")) == 1
    assert logged(worker, "windows dropped, to be read again") == []
    assert total(worker, "inferry_dropped_windows_total") == 0


@pytest.fixture(autouse=True)
def leave_no_sockets_to_others() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("kafka-that-goes-away"))
    broker.start()
    yield broker
    broker.stop()


@deliveries_and_clients
@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
def test_the_broker_may_be_away(make_world: MakeWorld, own_broker: Broker, delivery: str, crash: bool) -> None:
    world = make_world(bootstrap=own_broker.bootstrap)
    with Load(world):
        worker = world.worker(**SMALL_WINDOWS, delivery=delivery)
        wait_for(lambda: delivered(worker) > 100, 60, "results")
        if crash:
            own_broker.kill()
            wait_for(lambda: state(worker) == "holding", 30, "that it says that it waits")
            assert "Kafka does not answer" in worker.get("/readyz")[1]
            assert worker.get("/livez")[0] == 200, "a restart would not help"
        else:
            own_broker.stop()
        before = delivered(worker)
        own_broker.start()
        wait_for(lambda: delivered(worker) > before + 100, 90, "results after it is back")
        assert state(worker) == "running"
    assert_answered(world, delivery)
    assert world.dead_letters() == {}
    assert worker.exit_code is None
    assert worker.stop() == 0


def assert_answered(world: World, delivery: str) -> None:
    if delivery == "exactly-once":
        world.assert_each_once()
        world.assert_in_order()
    else:
        world.assert_none_lost()


def test_sigterm_while_kafka_is_away_ends_within_the_drain_time(make_world: MakeWorld, own_broker: Broker) -> None:
    world = make_world(bootstrap=own_broker.bootstrap)
    with Load(world):
        worker = world.worker(**SMALL_WINDOWS, drain_seconds=2)
        wait_for(lambda: delivered(worker) > 50, 60, "results")
        own_broker.kill()
        worker.terminate()
        try:
            assert worker.wait() in (0, 3)
        finally:
            own_broker.start()
    world.worker()
    world.assert_each_once()
