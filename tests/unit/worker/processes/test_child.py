"""A process as its parent sees it, with small programs in the place of a worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from worker.channel import Begin, Port, Running, Stop
from worker.processes.child import Child

PROGRAM = """
import os, socket, sys
from worker.channel import *

channel = Channel(socket.socket(fileno=int(sys.argv[1])))
said = channel.to_process()
begin = next(said)
"""
WAIT_SECONDS = 30


class Parent:
    """Starts a program and hears what becomes of it."""

    def __init__(self, program: str) -> None:
        self.heard: SimpleQueue[Any] = SimpleQueue()
        begin = Begin(1, {"group": "g"})
        self.child = Child(begin, heard=self.heard.put, ended=self.heard.put, program=["-c", PROGRAM + program])

    def next(self) -> Any:
        return self.heard.get(timeout=WAIT_SECONDS)


def test_both_sides_say_what_they_have_to_say() -> None:
    parent = Parent("channel.send(Port(begin.process + len(begin.settings)))\nprint(next(said))\nsys.exit(78)")
    assert parent.next() == Port(2)
    parent.child.send(Stop(hard=True))
    assert parent.next() == 78
    parent.child.send(Stop(hard=True))  # nobody is there any more


def test_a_signal_that_ends_it_is_told() -> None:
    parent = Parent("channel.send(Running())\nnext(said)")
    assert parent.next() == Running()
    parent.child.kill()
    assert parent.next() == -signal.SIGKILL


def test_half_a_line_of_one_that_was_killed_is_nothing() -> None:
    parent = Parent("channel._socket.sendall(b'{')\nos.kill(os.getpid(), 9)")
    assert parent.next() == -signal.SIGKILL


def test_when_the_parent_lets_go_it_is_told_the_end() -> None:
    parent = Parent("channel.send(Running())\nsys.exit(len(list(said)))")
    assert parent.next() == Running()
    parent.child.let_go()
    assert parent.next() == 0


def test_settings_are_not_in_its_environment_and_the_rest_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERRY_KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("SOMETHING_ELSE", "x")
    parent = Parent(
        "told = [name.startswith('INFERRY_') for name in os.environ]\n"
        "sys.exit(10 * any(told) + ('SOMETHING_ELSE' in os.environ))"
    )
    assert parent.next() == 1


def test_modules_of_the_working_directory_are_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit(99)")
    monkeypatch.chdir(tmp_path)
    assert Parent("sys.exit(7)").next() == 7


def test_a_terminals_ctrl_c_does_not_reach_it() -> None:
    parent = Parent("channel.send(Port(os.getpgid(0)))\nnext(said)")
    assert parent.next() == Port(parent.child.pid) != Port(os.getpgid(0))
    parent.child.kill()
    assert parent.next() == -signal.SIGKILL
