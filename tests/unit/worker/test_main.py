"""The command: arguments in, exit code out, signals on to the service."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from threading import Semaphore

import pytest

from worker import service
from worker.__main__ import main
from worker.channel import Tell, to_nobody
from worker.errors import (
    ConfigError,
    DeadLetterLimitReached,
    ExitCode,
    Fenced,
    KafkaUnavailable,
    ModelMismatch,
    OffsetsLost,
    ServingUnavailable,
    WorkerError,
)
from worker.ports import Clock
from worker.settings import Settings
from worker.text import subword_encoder_name


class FakeService:
    """Stands in for the worker: `outcome` is returned or raised by run()."""

    outcome: bool | Exception = True
    signals: tuple[signal.Signals, ...] = ()

    def __init__(self, settings: Settings, _tell: Tell) -> None:
        self.settings = settings
        self.stops: list[bool] = []
        self.stopped = Semaphore(0)
        made.append(self)

    def run(self) -> bool:
        for number in self.signals:
            os.kill(os.getpid(), number)
        for _ in self.signals:
            assert self.stopped.acquire(timeout=30)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def stop(self, *, hard: bool = False) -> None:
        self.stops.append(hard)
        self.stopped.release()


made: list[FakeService] = []


@pytest.fixture(autouse=True)
def fake_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeService]]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for name in [name for name in os.environ if name.startswith("INFERRY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(service, "Service", FakeService)
    monkeypatch.setattr(FakeService, "outcome", True)
    monkeypatch.setattr(FakeService, "signals", ())
    monkeypatch.setattr("worker.__main__.configure", lambda *_, **__: None)
    made.clear()
    yield FakeService
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("words", [["run", "--group", "mine"], ["--group", "mine"]])
def test_run_is_the_default(words: list[str]) -> None:
    assert main(words) == ExitCode.OK
    assert made[0].settings.group == "mine"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no such topic"), 78),
        (KafkaUnavailable("not there"), 69),
        (ServingUnavailable("not there"), 69),
        (ModelMismatch("does not fit"), 76),
        (DeadLetterLimitReached("too many"), 4),
        (Fenced("another process"), 5),
        (OffsetsLost("out of range"), 6),
        (WorkerError("a bug"), 1),
    ],
)
def test_each_error_is_one_sentence_and_its_exit_code(
    error: WorkerError, code: int, fake_service: type[FakeService], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_service.outcome = error
    assert main(["run"]) == code
    assert capsys.readouterr().err == f"inferry-worker: {error}\n"


def test_what_was_given_up_is_told_by_the_exit_code(fake_service: type[FakeService]) -> None:
    fake_service.outcome = False
    assert main(["run"]) == ExitCode.STOPPED_HARD == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_softly_and_every_further_one_hard(
    number: signal.Signals, fake_service: type[FakeService]
) -> None:
    fake_service.signals = (number, signal.SIGTERM, number)
    main(["run"])
    assert made[0].stops == [False, True, True]


def test_an_error_that_nobody_expected_is_not_hidden(fake_service: type[FakeService]) -> None:
    fake_service.outcome = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        main(["run"])


def test_config_prints_each_setting_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--group", "mine"]) == ExitCode.OK
    *settings, encoder = capsys.readouterr().out.splitlines()
    assert [line.split(" = ")[0].replace("-", "_") for line in settings] == list(Settings.model_fields)
    assert encoder == f"# subwords are encoded by: {subword_encoder_name()}"
    assert made == []


def test_no_such_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start"]) == ExitCode.USAGE
    assert "There are: run, config" in capsys.readouterr().err


def test_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.OK
    told = capsys.readouterr().out
    for code in ExitCode:
        assert f"{code.value} {code.name.lower().replace('_', '-')}" in told


class FakeSupervisor(FakeService):
    """Stands in for the parent of several."""

    def __init__(self, settings: Settings, count: int, _clock: Clock) -> None:
        super().__init__(settings, to_nobody)
        self.count = count

    def run(self) -> int:  # type: ignore[override]
        super().run()
        return ExitCode.FENCED


@pytest.mark.parametrize(("processes", "cores", "parents"), [("1", 8, 0), ("auto", 1, 0), ("3", 8, 3), ("auto", 2, 2)])
def test_a_parent_is_there_for_more_than_one_process(
    processes: str, cores: int, parents: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.processes.Supervisor", FakeSupervisor)
    monkeypatch.setattr("worker.cores.available_cores", lambda: cores)
    code = main(["run", "--processes", processes])
    assert [one.count if isinstance(one, FakeSupervisor) else 0 for one in made] == [parents]
    assert code == (ExitCode.FENCED if parents else ExitCode.OK)


def test_the_parent_of_several_is_stopped_by_signals_as_a_worker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.processes.Supervisor", FakeSupervisor)
    monkeypatch.setattr(FakeSupervisor, "signals", (signal.SIGTERM, signal.SIGINT))
    main(["run", "--processes", "2"])
    assert made[0].stops == [False, True]


def test_config_says_how_many_processes_auto_means(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cores.available_cores", lambda: 6)
    main(["config", "--processes", "auto"])
    assert "# processes on this machine: 6\n" in capsys.readouterr().out
    assert main(["config", "--processes", "none"]) == ExitCode.CONFIG
    assert "it can be auto or a number from 1 to 256" in capsys.readouterr().err
