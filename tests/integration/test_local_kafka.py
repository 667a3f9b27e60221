"""The one-machine Kafka is Apache Kafka: it keeps what it was given, and it does not outlive its starter."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer

from deploy.local.broker import Broker
from deploy.local.errors import DiskFull, PortTaken, ProcessDied
from tests.conftest import MakeTopics, create_topics

pytestmark = pytest.mark.lasts(8)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "kafka")
    broker.start()
    yield broker
    broker.stop()


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(topic, value, partition=0).get(timeout=30)
    producer.close()


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    values: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=500).values():
            values += [record.value for record in records]
    consumer.close()
    return values


def test_what_is_produced_is_consumed(broker: Broker, topics: MakeTopics) -> None:
    [topic] = topics("echo", partitions=2)
    produce(broker.bootstrap, topic, b"fantabulous")
    assert consume(broker.bootstrap, topic, 1) == [b"fantabulous"]


def test_data_survives_a_stop_and_a_crash(own_broker: Broker) -> None:
    address = own_broker.bootstrap
    [topic] = create_topics(address, "kept", partitions=1)
    produce(address, topic, b"before the stop")
    assert own_broker.restart() == address
    produce(address, topic, b"before the crash")
    own_broker.kill()
    assert own_broker.start() == address
    assert consume(address, topic, 2) == [b"before the stop", b"before the crash"]


def test_no_topic_is_created_by_asking_for_it(broker: Broker) -> None:
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    try:
        assert not consumer.partitions_for_topic("never-made")
        assert "never-made" not in consumer.topics()
    finally:
        consumer.close()


def test_a_broker_stops_when_told_and_its_pid_is_gone(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    pid = broker.pid
    assert "kafka.Kafka" in psutil.Process(pid).cmdline()
    broker.stop()
    broker.stop()
    assert not psutil.pid_exists(pid)
    with pytest.raises(ProcessDied, match="not running"):
        _ = broker.pid


def test_a_broker_does_not_outlive_a_starter_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from deploy.local.broker import Broker;"
        f"b = Broker(Path({str(tmp_path)!r})); b.start(); print(b.pid, flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter, starter.stdout:
        java = psutil.Process(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)
        gone, alive = psutil.wait_procs([java], timeout=30)
    assert gone
    assert not alive


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port}, wanted for Kafka"):
            Broker(tmp_path, port=port).start()


def test_a_setting_kafka_refuses_is_told_with_its_own_words(tmp_path: Path) -> None:
    broker = Broker(tmp_path, overrides={"num.io.threads": "none"})
    with pytest.raises(ProcessDied, match=r"num\.io\.threads"):
        broker.start()


def test_too_little_room_is_told_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.broker.FREE_BYTES", 2**62)
    with pytest.raises(DiskFull, match="MiB are free"):
        Broker(tmp_path).start()


def test_a_broker_restarted_from_a_thread_lives_on_when_the_thread_ends(own_broker: Broker) -> None:
    import threading

    thread = threading.Thread(target=own_broker.restart)
    thread.start()
    thread.join()
    [topic] = create_topics(own_broker.bootstrap, "after", partitions=1)
    produce(own_broker.bootstrap, topic, b"alive")
    assert own_broker.running
    assert os.getpid() != own_broker.pid
