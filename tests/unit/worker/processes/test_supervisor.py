"""The parent, with processes that are not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from worker.channel import Begin, Bounds, FromProcess, Port, Running, Stop, Summary, ToProcess
from worker.errors import ConfigError, ExitCode
from worker.observability.health import Health
from worker.processes.supervisor import CLOSING_SECONDS, Supervisor, own_settings
from worker.settings import Settings
from worker.testing import ManualClock


class FakeProcess:
    """Does what a test says."""

    def __init__(
        self, begin: Begin, *, heard: Callable[[FromProcess], None], ended: Callable[[int], None], pid: int = 4242
    ) -> None:
        self.begin = begin
        self.says = heard
        self.ends = ended
        self.pid = pid
        self.told: list[ToProcess] = []
        self.killed = False
        self.alone = False

    def send(self, message: ToProcess) -> None:
        self.told.append(message)

    def kill(self) -> None:
        self.killed = True

    def let_go(self) -> None:
        self.alone = True


class Surroundings:
    def __init__(self, count: int = 2, **settings: Any) -> None:
        self.clock = ManualClock()
        self.started: list[FakeProcess] = []
        given = {"retry_delay_seconds": 1, "max_retry_delay_seconds": 8, "metrics_host": "127.0.0.1", "metrics_port": 0}
        self.settings = Settings(**{**given, **settings})
        self.supervisor = Supervisor(self.settings, count, self.clock, start=self.start)

    def start(self, begin: Begin, **hooks: Any) -> FakeProcess:
        self.started.append(FakeProcess(begin, **hooks))
        return self.started[-1]

    def after(self, happens: Callable[[], object]) -> None:
        """Something happens, and the parent takes note of it."""
        happens()
        self.supervisor.wait()


def test_each_process_has_an_identity_of_its_own_in_kafka(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2")
    settings = Settings(
        metrics_token_file=str(tmp_path / "token"),
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username="me",
        group="g",
        instance_id="i",
        metrics_port=9000,
        kafka_sasl_password="hunter2",  # noqa: S106
        processes="2",
    )
    own = [Settings(**own_settings(settings, number)) for number in (0, 1)]  # type: ignore[arg-type]
    assert [one.producer_id for one in own] == ["g.0-0", "g.0-1"]
    assert [one.instance_id for one in own] == ["i-0", "i-1"]
    assert [one.client_id for one in own] == ["inferry-worker-0", "inferry-worker-1"]
    for one in own:
        assert (one.processes, one.metrics_host, one.metrics_port) == ("1", "127.0.0.1", 0)
        assert one.metrics_token_file == "", "the parent asks in the clear, and guards the port of all"
        assert one.kafka_sasl_password.get_secret_value() == "hunter2"
    named = Settings(**own_settings(Settings(transactional_id="t"), 3))  # type: ignore[arg-type]
    assert (named.producer_id, named.instance_id) == ("t-3", ""), "dynamic members stay dynamic"


def test_what_dies_is_started_again_as_the_same() -> None:
    found = Surroundings()
    found.supervisor.go_on()
    assert [process.begin.process for process in found.started] == [0, 1]
    found.after(lambda: found.started[1].ends(-9))
    found.clock.advance(2)
    found.supervisor.go_on()
    assert len(found.started) == 3
    assert found.started[2].begin == found.started[1].begin
    assert found.started[0].told == [], "the other goes on"


def test_a_stop_is_passed_on_softly_then_hard() -> None:
    found = Surroundings()
    found.supervisor.go_on()
    found.after(found.supervisor.stop)
    found.after(lambda: found.supervisor.stop(hard=True))
    for process in found.started:
        assert process.told == [Stop(hard=False), Stop(hard=True)]
    found.after(lambda: found.started[0].ends(0))
    found.started[1].ends(3)
    assert found.supervisor.run() == ExitCode.STOPPED_HARD


def test_one_that_no_new_start_mends_stops_the_others() -> None:
    found = Surroundings()
    found.supervisor.go_on()
    found.after(lambda: found.started[0].ends(78))
    assert found.started[1].told == [Stop(hard=False)]


@pytest.mark.parametrize("hard", [False, True])
def test_what_does_not_end_in_time_is_killed(hard: bool) -> None:
    found = Surroundings(drain_seconds=7)
    found.supervisor.go_on()
    found.after(lambda: found.supervisor.stop(hard=hard))
    found.after(lambda: found.started[0].ends(0))
    grace_seconds = CLOSING_SECONDS + (0 if hard else 7)
    found.clock.advance(grace_seconds - 1)
    found.supervisor.go_on()
    assert not found.started[1].killed
    found.clock.advance(1)
    found.supervisor.go_on()
    assert found.started[1].killed


def test_bounds_are_worked_out_once_by_the_first() -> None:
    found = Surroundings(start="earliest", until="end")
    found.supervisor.go_on()
    assert [process.begin.process for process in found.started] == [0]
    assert (found.started[0].begin.settings["start"], found.started[0].begin.settings["until"]) == ("earliest", "end")
    found.after(lambda: found.started[0].says(Bounds({0: 120, 1: 80})))
    found.supervisor.go_on()
    found.after(lambda: found.started[0].ends(-9))
    found.clock.advance(2)
    found.supervisor.go_on()
    assert [process.begin.process for process in found.started] == [0, 1, 0]
    for process in found.started[1:]:
        assert (process.begin.settings["start"], process.begin.settings["until"]) == ("committed", "0:120,1:80")


def test_a_first_that_dies_before_it_told_the_bounds_works_them_out_again() -> None:
    found = Surroundings(start="earliest")
    found.supervisor.go_on()
    found.after(lambda: found.started[0].ends(-9))
    found.clock.advance(2)
    found.supervisor.go_on()
    assert [process.begin.process for process in found.started] == [0, 0]
    assert found.started[1].begin.settings["start"] == "earliest"


def test_a_start_in_the_middle_of_the_topic_is_applied_once_in_a_run_without_end() -> None:
    found = Surroundings(start="0:5")
    found.supervisor.go_on()
    found.after(lambda: found.started[0].says(Bounds(None)))
    found.supervisor.go_on()
    assert found.started[1].begin.settings["start"] == "committed"
    assert found.started[1].begin.settings["until"] == ""


def test_a_bounded_run_is_complete_when_each_part_is() -> None:
    found = Surroundings(until="end")
    found.supervisor.go_on()
    found.after(lambda: found.started[0].says(Bounds({0: 9})))
    found.supervisor.go_on()
    found.after(lambda: found.started[0].says(Summary(True, {"positive": 3}, {"empty": 1})))
    assert found.supervisor.summary()["complete"] is False
    found.after(lambda: found.started[1].says(Summary(True, {"positive": 2, "negative": 1}, {})))
    assert found.supervisor.summary() == {
        "complete": True,
        "results": {"positive": 5, "negative": 1},
        "dead_letters": {"empty": 1},
        "restarts": 0,
    }


def test_what_the_port_is_told_of_each() -> None:
    found = Surroundings()

    def seen() -> list[tuple[int | None, str]]:
        return [(status.port, status.what) for status in found.supervisor.statuses]

    assert seen() == [(None, "waits to be started")] * 2
    found.supervisor.go_on()
    found.after(lambda: found.started[1].says(Port(1234)))
    assert seen() == [(None, "is starting"), (1234, "is starting")]
    found.after(lambda: found.started[1].says(Running()))
    found.after(lambda: found.started[1].ends(-9))
    assert seen()[1] == (None, "ended with SIGKILL and is started again")
    assert found.supervisor.statuses[1].restarts == 1


def test_a_port_that_is_taken_ends_it_before_anything_is_started() -> None:
    health = Health("127.0.0.1", 0, CollectorRegistry(), lambda: None, lambda: None)
    port = health.start()
    try:
        found = Surroundings(metrics_port=port)
        with pytest.raises(ConfigError, match="cannot be opened"):
            found.supervisor.run()
        assert found.started == []
    finally:
        health.close()


def test_run_ends_when_all_have_ended_and_lets_go_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Surroundings()
    found.supervisor.go_on()
    for process in found.started:
        process.ends(78)
    assert found.supervisor.run() == ExitCode.CONFIG
    broken = Surroundings()
    broken.supervisor.go_on()
    monkeypatch.setattr(broken.supervisor, "wait", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.supervisor.run()
    assert [process.alone for process in broken.started] == [True, True]


def test_the_parent_imports_no_client_library() -> None:
    program = (
        "import sys, worker.__main__, worker.processes; "
        "print(sorted({'kafka', 'grpc', 'numpy', 'confluent_kafka', 'google'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
