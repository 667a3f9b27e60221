"""Several processes on one machine, as a user would start them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from tests.faults.faulty_server import FaultyServer, Mood
from tests.integration.conftest import MakeWorld
from tests.support.harness import WorkerProcess, review_json, wait_for
from tests.support.model_server import ServerAddress
from tests.support.worker_world import Load, World, delivered, logged, some_reviews, total

pytestmark = pytest.mark.lasts(15)

SMALL_WINDOWS = {"window_records": 40, "batch_rows": 16}


def start(world: World, **settings: object) -> WorkerProcess:
    return world.worker(processes=2, **settings)


def children(worker: WorkerProcess) -> dict[str, int]:
    """The process ids of those that run now, by their numbers."""
    running = {process.pid for process in psutil.Process(worker.pid).children()}
    told = {str(line["number"]): line["pid"] for line in logged(worker, "process started")}
    return {number: pid for number, pid in told.items() if pid in running}


def by_process(worker: WorkerProcess, metric: str) -> dict[str, float]:
    """The sum of a metric's series for each process."""
    sums: dict[str, float] = {}
    for name, value in worker.metrics().items():
        if name.startswith(f"{metric}{{"):
            process = name.split('process="')[1].split('"')[0]
            sums[process] = sums.get(process, 0.0) + value
    return sums


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_two_processes_share_the_work_behind_one_port_and_end_with_their_parent(world: World) -> None:
    worker = start(world, **SMALL_WINDOWS, audit_headers=True, instance_id="me").wait_ready()
    wait_for(lambda: len(by_process(worker, "inferry_lag_records")) == 2, 30, "partitions for each")
    world.push(map(review_json, some_reviews(600)))
    world.assert_each_once()
    world.assert_in_order()
    wait_for(lambda: delivered(worker) == 600, 30, "their own account of it")
    shares = by_process(worker, "inferry_results_total")
    assert shares.keys() == {"0", "1"}
    assert all(share > 0 for share in shares.values())
    assert by_process(worker, "inferry_process_up") == {"0": 1, "1": 1}
    assert by_process(worker, "process_cpu_seconds_total").keys() == {"supervisor", "0", "1"}
    assert_promtool_agrees(worker.get("/metrics")[1])
    assert worker.get("/")[0] == 200
    page = json.loads(worker.get("/status.json")[1])
    assert (sum(page["results"].values()), page["state"]) == (600, "running")
    assert {each["partition"] for each in page["lag"]} == {0, 1, 2}
    assert page["settings"]["processes"] == "2"

    pids = children(worker)
    os.kill(pids["1"], signal.SIGSTOP)
    for probe in ("/readyz", "/livez"):
        status, told = worker.get(probe)
        assert status == 503
        assert "process 1 does not answer" in told
    assert by_process(worker, "inferry_process_up") == {"0": 1, "1": 0}
    os.kill(pids["1"], signal.SIGCONT)
    wait_for(lambda: worker.get("/livez") == worker.get("/readyz") == (200, "ok\n"), 60, "both")

    worker.kill()
    wait_for(lambda: all(map(ended, pids.values())), 30, "the end of the orphans")


def assert_promtool_agrees(text: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        assert not os.environ.get("CI"), "promtool is missing: install Debian's package `prometheus`"
        return
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_that_is_killed_is_started_again_and_sigterm_drains_all(world: World) -> None:
    with Load(world):
        worker = start(world, **SMALL_WINDOWS)
        wait_for(lambda: delivered(worker) > 100, 60, "results")
        before = children(worker)
        os.kill(before["0"], signal.SIGKILL)
        wait_for(lambda: len(logged(worker, "process started")) == 3, 30, "its next life")
        wait_for(worker.ready, 60, "both")
        assert children(worker)["1"] == before["1"], "the other goes on"
        assert by_process(worker, "inferry_process_restarts_total") == {"0": 1, "1": 0}
        [retry] = [line for line in logged(worker, "trying again") if line["what"] == "process"]
        assert retry["detail"] == "process 0 ended with SIGKILL"
        so_far = len(world.results())
        wait_for(lambda: len(world.results()) > so_far, 60, "further results")
        # A service manager signals every process there is: those that are signalled twice still drain.
        everybody = [worker.pid, *children(worker).values()]
        for pid in everybody:
            os.kill(pid, signal.SIGTERM)
        assert worker.wait() == 0
        world.assert_nothing_half_done()
    start(world)
    world.assert_each_once()
    world.assert_in_order()


def test_what_no_new_start_mends_ends_all_at_once(world: World) -> None:
    worker = start(world, input_topic="there-is-no-such-topic")
    assert worker.wait() == 78
    assert "no such topic" in worker.log
    assert logged(worker, "trying again") == []


def test_sigterm_reaches_processes_that_are_still_starting(world: World) -> None:
    worker = start(world)
    wait_for(lambda: len(logged(worker, "process started")) == 2, 30, "both processes")
    pids = children(worker)
    worker.terminate()
    assert worker.wait() == 0
    assert all(map(ended, pids.values()))


def test_a_bounded_run_begins_and_ends_once_for_all_processes(world: World) -> None:
    """A process that is started again in the middle goes on there, and has the same end as the others."""
    world.push(map(review_json, some_reviews(2_000)))
    world.commit(dict.fromkeys(range(world.partitions), 20))
    worker = start(world, start="earliest", until="end", window_records=8, batch_rows=4)
    wait_for(lambda: delivered(worker) > 0, 60, "the first answers")
    os.kill(children(worker)["0"], signal.SIGKILL)
    world.push(map(review_json, some_reviews(50)))
    assert worker.wait(90) == 0
    answers = world.visible_answers()
    assert (len(answers), set(answers.values())) == (2_000, {1})
    [whole] = [line for line in logged(worker, "summary") if line["process"] == "supervisor"]
    assert whole["complete"] is True
    assert whole["restarts"] == 1


@pytest.fixture
def front(model_server: ServerAddress) -> Iterator[FaultyServer]:
    """Stands before the shared model server, and says nothing in the mood HUNG."""
    front = FaultyServer(model_server.grpc_target)
    yield front
    front.close()


def test_a_second_sigterm_stops_all_at_once(make_world: MakeWorld, front: FaultyServer) -> None:
    world = make_world(serving=f"127.0.0.1:{front.port}")
    worker = start(world, drain_seconds=300, request_timeout_seconds=50).wait_ready()
    front.mood = Mood.HUNG
    world.push(map(review_json, some_reviews(20)))
    wait_for(lambda: total(worker, "inferry_windows_in_flight") > 0, 30, "a window in flight")
    worker.terminate()
    wait_for(lambda: logged(worker, "draining"), 30, "the drain")
    assert worker.exit_code is None, "it waits for what is in flight"
    worker.terminate()
    assert worker.wait() == 3
    world.assert_nothing_half_done()
