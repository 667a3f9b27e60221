"""What the worker checks before its first poll: one sentence that says what to do, and a named exit code."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from deploy.local.broker import Broker
from deploy.local.ports import free_ports
from tests.integration.conftest import MakeWorld, both_clients
from tests.support.harness import WorkerProcess, review_json, wait_for
from tests.support.worker_world import World


def last_words(worker: WorkerProcess) -> str:
    """The sentence it ended with, and nothing after it."""
    sentence = worker.log.strip().splitlines()[-1]
    assert sentence.startswith("inferry-worker: ")
    assert "Traceback" not in worker.log
    return sentence.removeprefix("inferry-worker: ")


def nowhere() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_a_missing_topic_is_named_with_what_to_do(world: World) -> None:
    worker = world.worker(output_topic="never-made", dead_letter_topic="nor-this")
    assert worker.wait() == 78
    assert f"no such topic at {world.bootstrap}: never-made, nor-this" in last_words(worker)
    assert "--create-topics" in last_words(worker)


def test_a_missing_topic_is_told_at_once_although_the_model_server_is_still_waited_for(world: World) -> None:
    worker = world.worker(output_topic="never-made", serving=nowhere(), startup_seconds=600)
    assert worker.wait() == 78
    assert "never-made" in last_words(worker)


@pytest.fixture(scope="module")
def sasl_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of a broker's two listeners: one that lets in who says `alice` and `secret`, one without SASL."""
    plain, sasl, controller = free_ports(3)
    listeners = f"PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl}"
    overrides = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret";'
        ),
    }
    broker = Broker(tmp_path_factory.mktemp("kafka"), port=plain, overrides=overrides)
    broker.start()
    yield f"127.0.0.1:{sasl}", broker.bootstrap
    broker.stop()


ALICE = {
    "kafka_security_protocol": "SASL_PLAINTEXT",
    "kafka_sasl_mechanism": "PLAIN",
    "kafka_sasl_username": "alice",
    "kafka_sasl_password": "secret",
}


@pytest.mark.parametrize(
    ("kafka_client", "wrong", "said"),
    [
        ("kafka-python", {"kafka_sasl_password": "guessed"}, "SaslAuthenticationFailedError"),
        ("kafka-python", {"kafka_sasl_mechanism": "SCRAM-SHA-256"}, "UnsupportedSaslMechanismError"),
        ("librdkafka", {"kafka_sasl_password": "guessed"}, "_AUTHENTICATION"),
        ("librdkafka", {"kafka_sasl_mechanism": "SCRAM-SHA-256"}, "_AUTHENTICATION"),
    ],
    indirect=["kafka_client"],
)
def test_wrong_credentials_are_no_outage_to_wait_out(
    sasl_broker: tuple[str, str], make_world: MakeWorld, wrong: Mapping[str, str], said: str
) -> None:
    world = make_world(bootstrap=sasl_broker[1])
    # Minutes, and all of them in one attempt: only the refusal itself can end it.
    limits = {"kafka_request_timeout_seconds": 250, "kafka_delivery_timeout_seconds": 260}
    limits |= {"transaction_timeout_seconds": 270, "session_timeout_seconds": 280, "max_poll_interval_seconds": 290}
    worker = world.worker(**{**ALICE, **wrong, **limits, "bootstrap": sasl_broker[0], "startup_seconds": 900})
    assert worker.wait() == 78
    assert said in last_words(worker)
    assert "kafka-sasl-password" in last_words(worker)
    assert "guessed" not in worker.log


def test_a_mechanism_that_librdkafka_does_not_know_is_no_outage_either(
    sasl_broker: tuple[str, str], make_world: MakeWorld
) -> None:
    world = make_world(bootstrap=sasl_broker[1])
    unknown = {**ALICE, "kafka_sasl_mechanism": "GUESSWORK", "bootstrap": sasl_broker[0], "startup_seconds": 900}
    worker = world.worker(**{**unknown, "kafka_client": "librdkafka"})
    assert worker.wait() == 78
    assert "GUESSWORK" in last_words(worker)


@pytest.mark.parametrize(
    ("kafka_client", "said"),
    [("kafka-python", "connections_max_idle_ms"), ("librdkafka", "socket.timeout.ms")],
    indirect=["kafka_client"],
)
def test_limits_that_the_client_does_not_take_are_no_outage_either(world: World, said: str) -> None:
    limits = {"kafka_request_timeout_seconds": 600, "kafka_delivery_timeout_seconds": 650}
    limits |= {"transaction_timeout_seconds": 700, "session_timeout_seconds": 800, "max_poll_interval_seconds": 900}
    worker = world.worker(**limits, startup_seconds=900)
    assert worker.wait() == 78
    assert said in last_words(worker)


@pytest.mark.parametrize(
    ("kafka_client", "said"),
    [("kafka-python", "IllegalSaslStateError"), ("librdkafka", "_AUTHENTICATION")],
    indirect=["kafka_client"],
)
def test_credentials_for_a_listener_that_takes_none_are_no_outage_either(
    sasl_broker: tuple[str, str], make_world: MakeWorld, said: str
) -> None:
    world = make_world(bootstrap=sasl_broker[1])
    worker = world.worker(**ALICE, startup_seconds=900)
    assert worker.wait() == 78
    assert said in last_words(worker)


@both_clients
def test_right_credentials_let_the_worker_in(sasl_broker: tuple[str, str], make_world: MakeWorld) -> None:
    world = make_world(bootstrap=sasl_broker[1], partitions=1)
    world.push([review_json("a good film")])
    worker = world.worker(**{**ALICE, "bootstrap": sasl_broker[0], "start": "earliest", "until": "end"})
    assert worker.wait() == 0, last_words(worker)
    world.assert_each_once()


@both_clients
def test_kafka_that_is_not_there_is_waited_for_and_then_named(world: World) -> None:
    address = nowhere()
    worker = world.worker(bootstrap=address, startup_seconds=2)
    assert worker.wait() == 69
    assert f"connecting to Kafka at {address}" in last_words(worker)


def test_a_model_server_that_is_not_there_is_waited_for_and_then_named(world: World) -> None:
    address = nowhere()
    worker = world.worker(serving=address, startup_seconds=1)
    wait_for(lambda: worker.get("/readyz")[0] == 503, 30, "the probes")
    assert "starting" in worker.get("/readyz")[1]
    assert worker.get("/livez")[0] == 200
    assert worker.wait() == 69
    assert address in last_words(worker)
    assert "sentiment_classifier" in last_words(worker)


def test_a_model_that_is_not_served_is_named(world: World) -> None:
    worker = world.worker(model="toxicity", startup_seconds=1)
    assert worker.wait() == 69
    assert "toxicity" in last_words(worker)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"signature": "classify"}, ["classify", "serving_default"]),
        ({"input_name": "ids"}, ["ids", "tokens"]),
        ({"output_name": "label"}, ["label", "score"]),
        ({"labels": "bad,so-so,good"}, ["3", "label"]),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_what_it_has(
    world: World, settings: Mapping[str, object], said: list[str]
) -> None:
    worker = world.worker(**settings)
    assert worker.wait() == 76
    for words in said:
        assert words in last_words(worker)


def test_a_metrics_port_that_is_taken_is_named(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        worker = world.worker(metrics_port=port)
        assert worker.wait() == 78
    assert f"metrics port {port}" in last_words(worker)


def test_a_worker_that_is_told_to_stop_while_it_waits_for_kafka_stops(world: World) -> None:
    worker = world.worker(bootstrap=nowhere(), startup_seconds=300)
    wait_for(lambda: worker.get("/readyz")[0] == 503, 30, "the probes")
    worker.terminate()
    assert worker.wait(20) == 0


def test_a_broker_without_any_group_yet_takes_a_start(tmp_path: Path, make_world: MakeWorld) -> None:
    """The first group ever asked for makes the broker create its internal topic: until then it has no coordinator."""
    broker = Broker(tmp_path / "kafka")
    broker.start()
    try:
        world = make_world(bootstrap=broker.bootstrap, partitions=1)
        world.push([review_json("a good film")])
        worker = world.worker(start="earliest", until="end")
        assert worker.wait() == 0, last_words(worker)
        world.assert_each_once()
    finally:
        broker.stop()


# --- the command line ------------------------------------------------------------------------------------------------


def command(*words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )


def test_config_prints_the_settings_in_force_without_secrets() -> None:
    done = command(
        "config",
        *("--kafka-security-protocol", "SASL_SSL", "--kafka-sasl-mechanism", "PLAIN", "--kafka-sasl-username", "me"),
        *("--group", "mine", "--no-audit-headers"),
        environment={"INFERRY_KAFKA_SASL_PASSWORD": "hunter2", "INFERRY_MODEL": "toxicity"},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "group = 'mine'" in lines
    assert "model = 'toxicity'" in lines
    assert "window-records = " in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert any(line.startswith("kafka-sasl-password = '**") for line in lines)


@pytest.mark.parametrize(
    ("words", "environment", "code", "said"),
    [
        (["run", "--windows-record", "5"], {}, 2, "--windows-record"),
        (["run"], {"INFERRY_WINDOW_RECORD": "5"}, 78, "INFERRY_WINDOW_RECORD"),
        (["run", "--output-topic", "reviews"], {}, 78, "three different topics"),
        (["config"], {"INFERRY_CONFIG": "/nowhere.toml"}, 78, "/nowhere.toml"),
        (["start"], {}, 2, "no such command: start"),
        (["config", "--from", "yesterday"], {}, 78, "earliest"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_a_sentence(
    words: list[str], environment: dict[str, str], code: int, said: str
) -> None:
    done = command(*words, environment=environment)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_exit_code() -> None:
    done = command("--help")
    assert done.returncode == 0
    for code in ("69 unavailable", "78 config", "6 offsets-lost", "3 stopped-hard"):
        assert code in done.stdout
