"""Where the stack's programs listen: at the standard ports, unless something else does."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import ports
from deploy.local.__main__ import main
from deploy.local.errors import ExitCode, PortTaken
from deploy.local.model_server.flags import Flags
from deploy.local.ports import ANY, LOOPBACK, PortChooser, free_port
from deploy.local.running import Description, describe
from deploy.local.stack import GRPC_PORT, KAFKA_PORT, METRICS_PORT, MODEL_METRICS, PROMETHEUS_PORT, REST_PORT
from producer.connection import DEFAULT_BOOTSTRAP
from tests.unit.deploy.test_deploy_files import KUBERNETES, PROMETHEUS, load
from worker.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def chooser() -> Iterator[PortChooser]:
    chooser = PortChooser()
    yield chooser
    chooser.release()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


def test_the_standard_port_where_it_is_free(chooser: PortChooser) -> None:
    standard = free_port()
    assert chooser.choose(None, standard, "Kafka") == standard
    assert chooser.notes == []


def test_a_free_port_and_a_sentence_where_the_standard_one_is_taken(chooser: PortChooser, taken: int) -> None:
    port = chooser.choose(None, taken, "Kafka")
    with socket.create_server((LOOPBACK, port)):
        assert chooser.notes == [f"Port {taken}, wanted for Kafka, is taken: {port} is used instead."]


def test_a_named_port_that_is_taken_is_refused(chooser: PortChooser, taken: int) -> None:
    with pytest.raises(PortTaken, match=f"Port {taken}, wanted for Kafka, is in use"):
        chooser.choose(taken, free_port(), "Kafka")
    assert chooser.notes == []


def test_any_port_leaves_the_standard_one_to_others(chooser: PortChooser) -> None:
    standard = free_port()
    assert chooser.choose(ANY, standard, "Kafka") not in (ANY, standard)
    assert chooser.notes == []
    assert chooser.choose(None, standard, "Kafka") == standard


@pytest.mark.skipif(sys.platform != "linux", reason="only there are ports kept among stacks")
def test_a_port_is_kept_for_a_program_that_does_not_listen_yet(chooser: PortChooser) -> None:
    standard, other = free_port(), PortChooser()
    assert chooser.choose(None, standard, "Kafka") == standard
    assert other.choose(None, standard, "Kafka") != standard
    assert other.notes[0].startswith(f"Port {standard}, wanted for Kafka, is taken")
    with pytest.raises(PortTaken, match=f"Port {standard}, wanted for Kafka, is that of a stack that is starting"):
        other.choose(standard, standard, "Kafka")
    chooser.release()
    assert other.choose(None, standard, "Kafka") == standard
    other.release()


@pytest.mark.skipif(sys.platform != "linux", reason="only there are ports kept among stacks")
def test_a_stack_that_is_killed_keeps_no_port(chooser: PortChooser) -> None:
    standard = free_port()
    script = f"""
import os, signal
from deploy.local.ports import PortChooser
PortChooser().choose({standard}, {standard}, "Kafka")
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert chooser.choose(None, standard, "Kafka") == standard


def test_the_standard_ports_are_those_that_programs_and_documents_name() -> None:
    assert f"localhost:{KAFKA_PORT}" == DEFAULT_BOOTSTRAP == Settings().bootstrap
    assert f"localhost:{GRPC_PORT}" == Settings().serving
    assert Flags().port == GRPC_PORT
    assert Settings().metrics_port == METRICS_PORT
    readme = (ROOT / "README.md").read_text("utf-8")
    assert set(re.findall(r"http://localhost:(\d+)/v1/models", readme)) == {str(REST_PORT)}
    ports = f"{KAFKA_PORT} (Kafka), {GRPC_PORT} and {REST_PORT} (model server), {METRICS_PORT} (worker)"
    assert ports in " ".join(readme.split())
    assert f"{PROMETHEUS_PORT} (Prometheus" in readme
    assert f'path: "{MODEL_METRICS}"' in (KUBERNETES / "monitoring.config").read_text("utf-8")
    paths = [job.get("metrics_path") for job in load(PROMETHEUS / "prometheus.yml")["scrape_configs"]]
    assert MODEL_METRICS in paths


def test_status_says_which_standard_ports_were_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    note = "Port 9092, wanted for Kafka, is taken: 40001 is used instead."
    (tmp_path / ".inferry").mkdir()
    describe(Path(".inferry"), Description(bootstrap="127.0.0.1:40001", notes=[note]))
    monkeypatch.setattr("deploy.local.running.owner", lambda _: 1)
    assert main(["status"]) == ExitCode.OK
    assert note in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ephemeral", "expected"),
    [
        ("32768\t60999\n", range(15_000, 32_768)),
        ("16000\t40000\n", range(40_001, 65_536)),
        ("1024\t65535\n", range(1_024, 65_536)),
        ("no range", range(15_000, 49_152)),
    ],
)
def test_a_free_port_is_none_that_an_outgoing_connection_may_take(
    ephemeral: str, expected: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "ip_local_port_range"
    told.write_text(ephemeral)
    monkeypatch.setattr(ports, "EPHEMERAL_RANGE", told)

    assert {free_port() in expected for _ in range(50)} == {True}


def test_a_free_port_is_none_that_is_in_use(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_beside_the_ephemeral", lambda: range(taken, taken + 1))
    with pytest.raises(PortTaken, match="No free port"):
        free_port()
