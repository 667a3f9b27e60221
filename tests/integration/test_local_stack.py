"""The commands a newcomer uses: the whole stack up in a folder, a review through it, and everything down again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from deploy.local.broker import JARS
from deploy.local.errors import ExitCode
from deploy.local.jars import ensure_jars
from deploy.local.ports import free_port
from deploy.local.stack import Ports, Stack

pytestmark = pytest.mark.lasts(15)

PROGRAMS = {"Kafka", "model server", "worker"}
FREE_PORTS = [f"--{name.replace('_', '-')}=0" for name in Ports.__dataclass_fields__]
"""Tests leave the standard ports to the stack that somebody may run beside them."""


@pytest.fixture
def folder(tmp_path: Path, model_base_path: Path) -> Iterator[Path]:
    """A folder as a clone is, with the jars and a model in place; whatever runs in it is stopped at the end."""
    ensure_jars(JARS)
    (tmp_path / ".inferry").mkdir()
    (tmp_path / JARS).symlink_to(JARS.absolute())
    (tmp_path / "models").symlink_to(model_base_path.parent)
    yield tmp_path
    run(tmp_path, "deploy.local", "down")


def run(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERRY_")}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


SERIES = [
    'up{job="inferry-worker"} == 1',
    'up{job="tensorflow-serving"} == 1',
    ':tensorflow:serving:request_count{model_name="sentiment_classifier", status="OK"}',
    ':tensorflow:serving:request_latency_bucket{model_name="sentiment_classifier", API="Predict", entrypoint="GRPC"}',
]


def described(folder: Path) -> dict[str, Any]:
    stack: dict[str, Any] = json.loads((folder / ".inferry/stack.json").read_text("utf-8"))
    return stack


def scraped(prometheus: str, series: str) -> None:
    """Waits until Prometheus has it: it scrapes every few seconds."""
    deadline = time.monotonic() + 120
    while not requests.get(f"{prometheus}/api/v1/query", {"query": series}, timeout=10).json()["data"]["result"]:
        assert time.monotonic() < deadline, f"Prometheus has no {series}"
        time.sleep(0.2)


def test_up_push_results_status_down(folder: Path) -> None:
    up = run(folder, "deploy.local", "up", "--detach", *FREE_PORTS)
    assert up.returncode == 0, up.stderr
    stack = described(folder)
    assert set(stack["pids"]) >= PROGRAMS
    processes = [psutil.Process(pid) for pid in stack["pids"].values()]

    again = run(folder, "deploy.local", "up", "--detach", *FREE_PORTS)
    assert again.returncode == ExitCode.ALREADY_RUNNING
    assert stack["bootstrap"] in again.stderr

    pushed = run(folder, "producer", "push", "--text", "That movie i saw the other day was fantabulous")
    assert pushed.returncode == 0, pushed.stderr
    results = run(folder, "producer", "results", "--wait-for", "1", "--timeout", "60", "--output", "json")
    assert results.returncode == 0, results.stderr
    assert json.loads(results.stdout)["label"] in ("positive", "negative")

    if (
        "prometheus" in stack
    ):  # it is optional on a machine; tests/integration/test_metrics_files.py insists on it in CI
        for series in SERIES:
            scraped(stack["prometheus"], series)

    assert "inferry_" in requests.get(stack["metrics"], timeout=10).text
    shown = run(folder, "deploy.local", "status")
    assert stack["metrics"] in shown.stdout
    assert stack["status"] in shown.stdout
    assert stack["status"] in up.stdout
    assert "<title>Inferry worker</title>" in requests.get(stack["status"], timeout=10).text

    down = run(folder, "deploy.local", "down")
    assert down.returncode == 0, down.stderr
    assert not any(process.is_running() for process in processes)
    assert run(folder, "deploy.local", "status").returncode == ExitCode.NOT_RUNNING


def test_a_program_that_dies_ends_the_stack_with_a_sentence(folder: Path) -> None:
    command = [sys.executable, "-m", "deploy.local", "up", *FREE_PORTS]
    with (folder / "out").open("w+") as out, subprocess.Popen(command, cwd=folder, stdout=out, stderr=out) as up:
        while not (folder / ".inferry/stack.json").exists():
            assert up.poll() is None, (folder / "out").read_text("utf-8")
            with pytest.raises(subprocess.TimeoutExpired):
                up.wait(0.2)
        others = [psutil.Process(pid) for name, pid in described(folder)["pids"].items() if name != "worker"]
        os.kill(described(folder)["pids"]["worker"], signal.SIGKILL)
        assert up.wait(120) == ExitCode.UNAVAILABLE
    said = (folder / "out").read_text("utf-8")
    assert "inferry-local: worker ended with exit code -9. Its log: .inferry/logs/worker.log" in said
    assert "Traceback" not in said
    assert not any(process.is_running() for process in others)


def test_a_port_in_use_is_told_through_the_background_too(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        up = run(folder, "deploy.local", "up", "--detach", *FREE_PORTS[1:], "--kafka-port", str(port))
    assert up.returncode == ExitCode.PORT_TAKEN
    assert f"Port {port}, wanted for Kafka" in up.stderr
    assert "Traceback" not in up.stderr
    assert run(folder, "deploy.local", "status").returncode == ExitCode.NOT_RUNNING


def test_a_standard_port_is_used_and_another_one_where_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard = free_port()
    monkeypatch.setattr("deploy.local.stack.KAFKA_PORT", standard)
    with Stack(tmp_path / "first", jars=JARS) as first, Stack(tmp_path / "second", jars=JARS) as second:
        first.start_kafka()
        second.start_kafka()
        assert first.where.bootstrap == f"127.0.0.1:{standard}"
        assert first.where.notes == []
        assert second.where.bootstrap != first.where.bootstrap
        other = second.where.bootstrap.rpartition(":")[2]
        assert second.where.notes == [f"Port {standard}, wanted for Kafka, is taken: {other} is used instead."]
