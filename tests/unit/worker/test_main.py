"""The command: arguments in, exit code out, signals on to the service."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from threading import Semaphore

import pytest

from worker import service
from worker.__main__ import main
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
from worker.settings import Settings
from worker.text import subword_encoder_name


class FakeService:
    """Stands in for the worker: `outcome` is returned or raised by run()."""

    outcome: bool | Exception = True
    signals: tuple[signal.Signals, ...] = ()

    def __init__(self, settings: Settings) -> None:
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
    monkeypatch.setattr("worker.__main__.configure", lambda *_: None)
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
