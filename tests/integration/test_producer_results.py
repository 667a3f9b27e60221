from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest
from kafka import KafkaProducer

from deploy.local.broker import Broker
from producer.__main__ import run
from producer.connection import Connection
from producer.errors import TimedOut, Unavailable
from producer.results import end_offsets, read_results
from protos.codecs import CodecError, Form, ResultMessage, encode_result
from tests.conftest import MakeTopics
from worker.records import Record

ROOT = Path(__file__).parents[2]


def result(number: int) -> ResultMessage:
    return ResultMessage(
        review_id=f"r-{number}",
        result_id=f"reviews/0/{number}",
        label="positive" if number % 2 else "negative",
        score=number / 1000,
        model_name="sentiment_classifier",
        model_version=1_700_000_000,
        tokens=number,
        truncated=number % 3 == 0,
        source_topic="reviews",
        source_partition=0,
        source_offset=number,
    )


class Publisher:
    """Writes results as the worker does: in transactions, which may be aborted."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"publisher-{topic}")
        self._producer.init_transactions()

    def publish(self, numbers: range, form: Form = Form.JSON, *, commit: bool = True) -> None:
        self._producer.begin_transaction()
        for number in numbers:
            value = encode_result(result(number), form)
            self._producer.send(self._topic, value, f"r-{number}".encode(), form.headers)
        self._producer.flush()
        if commit:
            self._producer.commit_transaction()
        else:
            self._producer.abort_transaction()

    def publish_raw(self, value: bytes) -> None:
        self._producer.begin_transaction()
        self._producer.send(self._topic, value)
        self._producer.commit_transaction()

    def close(self) -> None:
        self._producer.close()


@pytest.fixture
def connection(broker: Broker) -> Connection:
    return Connection.find(broker.bootstrap)


@pytest.fixture
def topic(topics: MakeTopics) -> str:
    return topics("review-labels")[0]


@pytest.fixture
def publisher(broker: Broker, topic: str) -> Iterator[Publisher]:
    with closing(Publisher(broker.bootstrap, topic)) as publisher:
        yield publisher


def numbers_of(lines: str) -> list[int]:
    return sorted(int(json.loads(line)["review_id"].removeprefix("r-")) for line in lines.splitlines())


def test_only_committed_results_are_read_in_either_form(
    connection: Connection, topic: str, publisher: Publisher
) -> None:
    publisher.publish(range(10))
    publisher.publish(range(10, 20), commit=False)
    publisher.publish(range(20, 30), Form.PROTOBUF)
    publisher.publish(range(30, 40), commit=False)  # the topic ends in aborted records and markers: reading must end
    received = [received.result for batch in read_results(connection, topic=topic) for received in batch]
    assert sorted(received, key=lambda found: found.tokens) == [result(n) for n in (*range(10), *range(20, 30))]


def test_an_empty_topic_has_no_results(connection: Connection, topic: str) -> None:
    assert [batch for batch in read_results(connection, topic=topic) if batch] == []


def test_what_is_no_result_is_told_and_not_counted(connection: Connection, topic: str, publisher: Publisher) -> None:
    publisher.publish(range(3))
    publisher.publish_raw(b'{"label": 5}')
    told: list[tuple[Record, CodecError]] = []
    batches = read_results(connection, topic=topic, on_undecodable=lambda record, error: told.append((record, error)))
    assert sum(len(batch) for batch in batches) == 3
    assert [record.value for record, _ in told] == [b'{"label": 5}']


def test_a_count_is_exact_and_waits_for_what_is_to_come(
    connection: Connection, topic: str, publisher: Publisher
) -> None:
    publisher.publish(range(10))
    here = end_offsets(connection, topic)
    assert sum(len(batch) for batch in read_results(connection, topic=topic, count=7, timeout_seconds=30)) == 7
    with closing(read_results(connection, topic=topic, start=here, count=5, timeout_seconds=60)) as batches:
        assert next(batches) == []
        publisher.publish(range(10, 20))
        assert next(found.result.review_id for batch in batches for found in batch).startswith("r-1")


def test_too_few_results_in_time_are_an_error(connection: Connection, topic: str, publisher: Publisher) -> None:
    publisher.publish(range(3))
    with pytest.raises(TimedOut, match="3 of 10 results"):
        list(read_results(connection, topic=topic, count=10, timeout_seconds=1))
    with pytest.raises(Unavailable, match="no topic"):
        list(read_results(connection, topic="nowhere", count=1, timeout_seconds=1))


def test_the_command_prints_json_lines_or_a_table(
    connection: Connection, topic: str, publisher: Publisher, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    publisher.publish(range(5))
    where = ["--topic", topic, "--bootstrap", connection.bootstrap]
    assert run(["results", "-o", "json", *where]) == 0
    out = capsysbinary.readouterr().out
    assert sorted(out.splitlines()) == sorted(encode_result(result(number)) for number in range(5))

    assert run(["results", *where]) == 0
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines[0].split() == ["label", "score", "tokens", "model", "source", "review"]
    assert min(line.split() for line in lines[1:]) == [
        "negative", "0.0000", "0+", "1700000000", "reviews/0/0", "r-0",
    ]  # fmt: skip
    assert b"\x1b" not in out
    assert "\x1b" not in "".join(lines)


def test_the_command_says_by_its_code_what_was_wrong(
    connection: Connection, topic: str, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--topic", topic, "--bootstrap", connection.bootstrap]
    publisher.publish(range(2))
    assert run(["results", "--wait-for", "3", "--timeout", "1", *where]) == 75
    assert "2 of 3 results came within 1 seconds" in capsys.readouterr().err
    publisher.publish_raw(b"\x1b[31mno result")
    assert run(["results", *where]) == 65
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "is no result" in err
    assert "\x1b" not in err


def test_a_long_id_is_not_cut_in_a_pipe(connection: Connection, topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 1000
    producer = KafkaProducer(bootstrap_servers=connection.bootstrap)
    fields = {name: getattr(result(1), name) for name in ResultMessage.__struct_fields__} | {"review_id": long}
    producer.send(topic, encode_result(ResultMessage(**fields)))
    producer.close()
    assert run(["results", "--topic", topic, "--bootstrap", connection.bootstrap]) == 0
    assert long in capsys.readouterr().out


def follow(topic: str, connection: Connection, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "producer", "results", "-f", "-o", "json", "--topic", topic]
    return subprocess.Popen(
        [*command, "--bootstrap", connection.bootstrap, *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines_of(stream: IO[str] | None, count: int) -> str:
    assert stream is not None
    return "".join(stream.readline() for _ in range(count))


def test_following_begins_with_the_last_ones_and_goes_on(
    connection: Connection, topic: str, publisher: Publisher
) -> None:
    publisher.publish(range(3))
    with follow(topic, connection) as following:
        assert numbers_of(lines_of(following.stdout, 3)) == [0, 1, 2]
        publisher.publish(range(3, 6))
        assert numbers_of(lines_of(following.stdout, 3)) == [3, 4, 5]  # each line as it comes, though this is a pipe
        following.send_signal(signal.SIGINT)
        assert following.communicate(timeout=60) == ("", "")
    assert following.returncode == 130


def test_a_reader_that_goes_away_is_no_error(connection: Connection, topic: str, publisher: Publisher) -> None:
    with follow(topic, connection) as following:
        publisher.publish(range(3))
        lines_of(following.stdout, 1)
        assert following.stdout is not None
        following.stdout.close()
        publisher.publish(range(3, 6))
        assert following.stderr is not None
        assert following.stderr.read() == ""
        assert following.wait(timeout=60) == 0
