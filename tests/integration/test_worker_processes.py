"""Several processes on one machine, as a user would start them."""

from __future__ import annotations

import psutil
import pytest

from tests.support.harness import WorkerProcess, review_json
from tests.support.worker_world import World, delivered, logged, some_reviews

pytestmark = pytest.mark.lasts(20)

SMALL_WINDOWS = {"window_records": 40, "batch_rows": 16}


def children(worker: WorkerProcess) -> dict[str, int]:
    """The process ids of those that run now, by their numbers, as the log tells."""
    running = {process.pid for process in psutil.Process(worker.pid).children()}
    told = {str(line["number"]): line["pid"] for line in logged(worker, "process started")}
    return {number: pid for number, pid in told.items() if pid in running}


def start(world: World, **settings: object) -> WorkerProcess:
    return world.worker(processes=2, **settings)


def test_two_processes_share_the_work_and_answer_each_once(world: World) -> None:
    worker = start(world, **SMALL_WINDOWS, audit_headers=True).wait_ready()
    world.push(map(review_json, some_reviews(600)))
    world.assert_each_once()
    world.assert_in_order()
    print(worker.get("/metrics")[1][:300])
    assert delivered(worker) == 600
    assert worker.stop() == 0
    print(worker.log)
