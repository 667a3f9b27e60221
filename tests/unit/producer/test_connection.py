from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.ports import free_port
from producer.connection import Connection, _as_environment, stack_address
from producer.errors import ConnectionConfigError, ExitCode

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("BOOTSTRAP", "KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_PASSWORD"):
        monkeypatch.delenv(f"INFERRY_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_stack(folder: Path, text: str) -> None:
    (folder / ".inferry").mkdir()
    (folder / ".inferry/stack.json").write_text(text)


def test_flag_wins_over_environment_over_stack_over_default(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Connection.find().bootstrap == "localhost:9092"
    write_stack(clean, '{"bootstrap": "127.0.0.1:4001", "grpc": "127.0.0.1:4002"}')
    assert Connection.find().bootstrap == "127.0.0.1:4001"
    monkeypatch.setenv("INFERRY_BOOTSTRAP", "kafka:1")
    assert Connection.find().bootstrap == "kafka:1"
    assert Connection.find("kafka:2").bootstrap == "kafka:2"


def test_the_stack_is_found_from_a_folder_below(clean: Path) -> None:
    write_stack(clean, '{"bootstrap": "127.0.0.1:4001", "grpc": "127.0.0.1:4002"}')
    below = clean / "a" / "b"
    below.mkdir(parents=True)
    assert stack_address("grpc", below) == "127.0.0.1:4002"
    assert stack_address("nothing", below) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"bootstrap": ""}', '{"bootstrap": null}'])
def test_a_broken_stack_file_is_passed_over(clean: Path, text: str) -> None:
    write_stack(clean, text)
    assert Connection.find().bootstrap == "localhost:9092"


def test_an_impossible_setting_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERRY_KAFKA_SECURITY_PROTOCOL", "hunter2")
    with pytest.raises(ConnectionConfigError, match="INFERRY_KAFKA_SECURITY_PROTOCOL") as raised:
        Connection.find()
    assert "hunter2" not in str(raised.value)


def test_the_password_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERRY_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("INFERRY_KAFKA_SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("INFERRY_KAFKA_SASL_USERNAME", "me")
    monkeypatch.setenv("INFERRY_KAFKA_SASL_PASSWORD", "hunter2")
    connection = Connection.find()
    assert "hunter2" not in f"{connection!r} {connection} {connection.model_dump_json()}"


@pytest.mark.parametrize("address", ["kafka:port", "kafka:", ":9092", "a b:1", "kafka:9092,", "http://kafka:9092"])
def test_an_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(ConnectionConfigError, match="is no address"):
        Connection.find(address)


@pytest.mark.parametrize("address", ["kafka", "kafka:9092", "10.0.0.1:9092, b.example:9093", "[::1]:9092"])
def test_addresses_as_kafka_writes_them_are_taken(address: str) -> None:
    assert Connection.find(address).bootstrap == address


def test_a_broker_that_is_not_there_is_told_in_one_sentence() -> None:
    # In a process of its own: kafka-python leaves a socket open when it cannot connect, and warnings are errors here.
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "producer", "push", "--text", "x", "--bootstrap", address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == ExitCode.UNAVAILABLE == 69
    assert done.stdout == ""
    assert done.stderr.startswith(f"inferry-producer: Kafka did not let us in at {address} (from --bootstrap)")
    assert "connection refused" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_only_settings_are_told_by_their_environment_variables() -> None:
    told = _as_environment(
        "/run/secrets/kafka-password cannot be read; Kafka at kafka-broker.prod:9093: set kafka-sasl-password."
    )

    assert told == (
        "/run/secrets/kafka-password cannot be read; Kafka at kafka-broker.prod:9093: set INFERRY_KAFKA_SASL_PASSWORD"
    )
