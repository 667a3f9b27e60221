"""One port for several processes, with processes whose answers a test makes up."""

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import threading

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from tests.support.events import everything_happens
from worker.observability import gathering
from worker.observability.gathering import NO_ANSWER, Answer, Gathering, ProcessStatus, ask
from worker.observability.metrics import CATALOGUE, OF_THE_PARENT
from worker.observability.telemetry import Telemetry
from worker.testing import ManualClock

OK = Answer(200, "ok\n")


class Processes:
    """Two of them, and what they answer at each path."""

    def __init__(self) -> None:
        self.statuses = [
            ProcessStatus("0", 1000, 0, "is starting"),
            ProcessStatus("1", 1001, 2, "is starting"),
        ]
        self.answers: dict[tuple[int, str], Answer] = {}
        self.gathered = Gathering(lambda: self.statuses, self.ask)

    def ask(self, port: int, path: str) -> Answer:
        return self.answers.get((port, path), OK)

    def scrape(self) -> str:
        return generate_latest(self.gathered.registry).decode()

    def samples(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.scrape())
            for sample in family.samples
            if sample.name == name
        }


def scraped() -> Answer:
    """What a worker serves once everything has happened."""
    registry = CollectorRegistry()
    everything_happens(Telemetry(registry, ManualClock()))
    return Answer(200, generate_latest(registry).decode())


@pytest.fixture
def processes() -> Processes:
    return Processes()


def test_every_series_of_every_process_bears_its_number(processes: Processes) -> None:
    answer = scraped()
    for port in (1000, 1001):
        processes.answers[port, "/metrics"] = answer
    seen = {
        (sample.name, sample.labels.pop("process"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(processes.scrape())
        for sample in family.samples
    }
    for family in text_string_to_metric_families(answer.body):
        for sample in family.samples:
            for number in ("0", "1"):
                key = (sample.name, number, tuple(sorted(sample.labels.items())))
                assert seen[key] == sample.value
    names = {name for name, _, _ in seen}
    assert {name for metric in (*CATALOGUE, *OF_THE_PARENT) for name in metric.samples} <= names


def test_help_and_type_stand_once_for_each_family(processes: Processes) -> None:
    answer = scraped()
    for port in (1000, 1001):
        processes.answers[port, "/metrics"] = answer
    lines = processes.scrape().splitlines()
    for what in ("# HELP ", "# TYPE "):
        names = [line.split()[2] for line in lines if line.startswith(what)]
        assert len(names) == len(set(names))
    types = {line for line in lines if line.startswith("# TYPE inferry_")}
    assert {line for line in answer.body.splitlines() if line.startswith("# TYPE inferry_")} <= types
    program = shutil.which("promtool")
    if program is not None:
        told = subprocess.run(
            [program, "check", "metrics"], input=processes.scrape(), capture_output=True, text=True, check=False
        )
        assert (told.returncode, told.stderr) == (0, "")


def test_openmetrics_is_spoken_too(processes: Processes) -> None:
    processes.answers[1000, "/metrics"] = scraped()
    text = generate_openmetrics(processes.gathered.registry).decode()  # type: ignore[no-untyped-call]
    found = {family.name: family.type for family in openmetrics_families(text)}  # type: ignore[no-untyped-call]
    assert found["inferry_records"] == "counter"
    assert found["inferry_end_to_end_latency_seconds"] == "histogram"


@pytest.mark.parametrize(
    "answer", [NO_ANSWER, Answer(500, "broken"), Answer(200, ""), Answer(200, 'inferry_records_total{a="')]
)
def test_one_that_does_not_answer_is_down_and_the_others_are_there(processes: Processes, answer: Answer) -> None:
    processes.answers[1000, "/metrics"] = scraped()
    processes.answers[1001, "/metrics"] = answer
    assert processes.samples("inferry_process_up") == {(("process", "0"),): 1, (("process", "1"),): 0}
    assert processes.samples("inferry_process_restarts_total") == {(("process", "0"),): 0, (("process", "1"),): 2}
    assert processes.samples("inferry_records_total").keys() == {(("process", "0"),)}


def test_one_that_starts_is_down_and_not_asked(processes: Processes) -> None:
    processes.statuses[1] = ProcessStatus("1", None, 0, "is starting")
    processes.answers[1000, "/metrics"] = scraped()
    assert processes.samples("inferry_process_up") == {(("process", "0"),): 1, (("process", "1"),): 0}


def test_the_parents_own_memory_is_told_as_the_supervisors(processes: Processes) -> None:
    assert processes.samples("process_resident_memory_bytes").keys() == {(("process", "supervisor"),)}


def test_ready_when_all_are(processes: Processes) -> None:
    assert processes.gathered.unready() is None
    processes.answers[1001, "/readyz"] = Answer(503, "The worker is holding: no route.\n")
    assert processes.gathered.unready() == "process 1 says: The worker is holding: no route."
    processes.answers[1000, "/readyz"] = NO_ANSWER
    assert processes.gathered.unready() == (
        "process 0 does not answer within 2 s; process 1 says: The worker is holding: no route."
    )
    processes.statuses[0] = ProcessStatus("0", None, 1, "ended with SIGKILL and is started again")
    processes.statuses[1] = ProcessStatus("1", None, 0, "has ended with ok (0)", finished=True)
    assert processes.gathered.unready() == "process 0 ended with SIGKILL and is started again"


def test_alive_unless_one_gets_nowhere_or_hangs(processes: Processes) -> None:
    assert processes.gathered.dead() is None
    processes.answers[1000, "/livez"] = Answer(503, "Nothing was delivered.\n")
    processes.answers[1001, "/livez"] = NO_ANSWER
    assert processes.gathered.dead() == ("process 0 says: Nothing was delivered.; process 1 does not answer within 2 s")
    processes.statuses[:] = [ProcessStatus(name, None, 1, "is starting") for name in ("0", "1")]
    assert processes.gathered.dead() is None, "what is being started is the parent's to mend"


def test_one_that_ends_while_it_is_asked_is_not_dead(processes: Processes) -> None:
    def ends(_port: int, _path: str) -> Answer:
        processes.statuses[:] = [ProcessStatus(name, None, 1, "is starting") for name in ("0", "1")]
        return NO_ANSWER

    assert Gathering(lambda: tuple(processes.statuses), ends).dead() is None


def test_all_are_asked_at_once(processes: Processes) -> None:
    both = threading.Barrier(2)

    def meets(_port: int, _path: str) -> Answer:
        both.wait(30)
        return OK

    assert Gathering(lambda: processes.statuses, meets).dead() is None


class OneAnswer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(f"you asked for {self.path}".encode())

    def log_message(self, *_: object) -> None:
        pass


def test_ask_brings_status_and_body() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), OneAnswer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert ask(server.server_port, "/readyz") == Answer(503, "you asked for /readyz")
        thread.join()


def test_ask_waits_for_nobody_who_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "ASK_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert ask(silent.getsockname()[1], "/metrics") == NO_ANSWER
        port = silent.getsockname()[1]
    assert ask(port, "/metrics") == NO_ANSWER, "nor is a port that is closed an error"
