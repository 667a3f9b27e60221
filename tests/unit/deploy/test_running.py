"""One stack in a folder, found and stopped by a lock that cannot lie."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local import running
from deploy.local.__main__ import main
from deploy.local.errors import AlreadyRunning, ExitCode, NotRunning
from deploy.local.running import Description
from producer.connection import Connection

HOLDER = """
import signal, sys, time
from pathlib import Path
from deploy.local import running
signal.signal(signal.SIGTERM, signal.default_int_handler)
with running.claimed(Path(sys.argv[1])):
    try:
        running.describe(Path(sys.argv[1]), running.Description(bootstrap="127.0.0.1:4711", pids={"Kafka": 1}))
        print("claimed", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        pass
"""


@contextmanager
def holder(state: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that claims the folder as a stack does."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(state)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_folder_nobody_claimed_runs_nothing(tmp_path: Path) -> None:
    assert running.owner(tmp_path) is None
    assert running.description(tmp_path) is None
    with pytest.raises(NotRunning):
        running.stop_owner(tmp_path)


def test_a_second_stack_is_refused_and_told_where_the_first_is(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with (
            pytest.raises(AlreadyRunning, match=rf"process {process.pid}\). Kafka is at 127\.0\.0\.1:4711"),
            running.claimed(tmp_path),
        ):
            pytest.fail("claimed twice")
        assert running.owner(tmp_path) == process.pid
        assert running.description(tmp_path) == Description(bootstrap="127.0.0.1:4711", pids={"Kafka": 1})


def test_down_stops_the_owner_and_leaves_the_folder_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert running.stop_owner(tmp_path, timeout_seconds=30) == process.pid
        assert process.wait() == 0
    assert not (tmp_path / running.DESCRIPTION).exists()
    with running.claimed(tmp_path):
        pass


def test_what_a_crash_left_behind_fools_nobody(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        assert (tmp_path / running.DESCRIPTION).exists()
        assert running.owner(tmp_path) is None
        assert running.description(tmp_path) is None
        with running.claimed(tmp_path):
            assert running.description(tmp_path) is None


def test_the_producer_finds_the_stack_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFERRY_BOOTSTRAP", raising=False)
    state = tmp_path / running.STATE
    state.mkdir()
    running.describe(state, Description(bootstrap="127.0.0.1:4711"))
    assert Connection.find(folder=tmp_path).bootstrap == "127.0.0.1:4711"


@pytest.mark.parametrize("command", ["status", "down", "logs"])
def test_commands_without_a_stack_say_so_with_their_own_exit_code(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command]) == ExitCode.NOT_RUNNING
    assert "inferry-local: " in capsys.readouterr().err


def test_up_refuses_before_it_downloads_or_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with holder(tmp_path / running.STATE):
        assert main(["up", "--detach"]) == ExitCode.ALREADY_RUNNING
    assert "running already" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
