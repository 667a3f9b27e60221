from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.broker import Broker
from producer.__main__ import run
from producer.connection import Connection
from producer.errors import BadInput, Unavailable
from producer.inputs import BadRow, entry
from producer.push import push
from producer.reading import TopicReader
from producer.sending import Sending, ToSend
from protos.codecs import Form, ReviewMessage, decode_review
from tests.conftest import MakeTopics
from worker.records import Record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def connection(broker: Broker) -> Connection:
    return Connection.find(broker.bootstrap)


@pytest.fixture
def topic(topics: MakeTopics) -> str:
    return topics("reviews")[0]


def records_of(connection: Connection, topic: str) -> list[Record]:
    with TopicReader(connection, topic) as reader:
        return [record for batch in reader.read(reader.earliest, reader.end) for record in batch]


def reviews_of(connection: Connection, topic: str) -> list[ReviewMessage]:
    return [decode_review(found.value, found.headers, max_bytes=1 << 20) for found in records_of(connection, topic)]


def test_each_review_begins_a_trace_where_that_is_asked_for(connection: Connection, topic: str) -> None:
    arguments = ["push", "--text", "good", "--text", "bad", "--topic", topic, "--bootstrap", connection.bootstrap]
    assert run([*arguments, "--trace"]) == 0
    begun = [dict(record.headers)["traceparent"].decode() for record in records_of(connection, topic)]
    assert len(set(begun)) == 2
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", header) for header in begun)
    assert run(arguments) == 0
    assert [dict(record.headers).get("traceparent") for record in records_of(connection, topic)].count(None) == 2


@pytest.mark.parametrize("form", list(Form))
def test_every_review_arrives_as_it_was_with_its_key(connection: Connection, topic: str, form: Form) -> None:
    reviews = [
        ReviewMessage(f"r-{number}", f"Überraschung {number} 🎬", {"label": "positive"}) for number in range(500)
    ]
    summary = push(reviews, connection, topic=topic, wire=form)
    records = records_of(connection, topic)
    assert (summary.sent, summary.failed, summary.exit_code) == (500, 0, 0)
    assert summary.partitions == Counter(f"{topic}/{record.partition}" for record in records)
    assert summary.sent_bytes == sum(
        len(record.key or b"")
        + len(record.value or b"")
        + sum(len(name) + len(value) for name, value in record.headers)
        for record in records
    )
    found = {record.key: decode_review(record.value, record.headers, max_bytes=1 << 20) for record in records}
    bare = form is Form.TEXT
    assert found == {review.id.encode(): ReviewMessage("", review.text) if bare else review for review in reviews}


def test_reviews_of_one_key_share_a_partition_and_keep_their_order(connection: Connection, topic: str) -> None:
    push((entry(ReviewMessage(str(n), f"text {n}"), key=f"film-{n % 7}") for n in range(700)), connection, topic=topic)
    order: dict[bytes | None, list[int]] = {}
    partitions: dict[bytes | None, set[int]] = {}
    for record in records_of(connection, topic):
        order.setdefault(record.key, []).append(int(decode_review(record.value, record.headers, max_bytes=999).id))
        partitions.setdefault(record.key, set()).add(record.partition)
    assert len(order) == 7
    assert all(numbers == sorted(numbers) and len(numbers) == 100 for numbers in order.values())
    assert all(len(found) == 1 for found in partitions.values())


def test_what_kafka_refuses_is_counted_and_the_rest_arrives(connection: Connection, topic: str) -> None:
    reviews = [ReviewMessage("a", "good"), ReviewMessage("big", "x" * (2 << 20)), ReviewMessage("b", "good")]
    summary = push(reviews, connection, topic=topic)
    assert (summary.sent, summary.failed, summary.exit_code) == (2, 1, 1)
    assert summary.examples == ["big: larger than the 1 MiB this client sends at most"]
    assert {review.id for review in reviews_of(connection, topic)} == {"a", "b"}


def test_a_failing_input_flushes_what_was_read_and_is_in_the_summary(connection: Connection, topic: str) -> None:
    def stop(row: BadRow) -> None:
        raise BadInput(row.why)

    rows = [ReviewMessage("a", "x"), BadRow("f:2", "broken"), ReviewMessage("b", "x")]
    summary = push(rows, connection, topic=topic, on_bad_row=stop)
    assert (summary.sent, summary.skipped, str(summary.error), summary.exit_code) == (1, 1, "broken", 65)
    assert len(records_of(connection, topic)) == 1
    assert push(rows, connection, topic=topic).sent == 2


def test_a_text_utf8_cannot_write_is_a_bad_row(connection: Connection, topic: str) -> None:
    bad: list[BadRow] = []
    summary = push(
        [ReviewMessage("a", "\ud800"), ReviewMessage("b", "x")], connection, topic=topic, on_bad_row=bad.append
    )
    assert (summary.sent, summary.skipped) == (1, 1)
    assert "UTF-8" in bad[0].why


def test_an_unexpected_error_in_the_input_still_flushes(connection: Connection, topic: str) -> None:
    def reviews() -> Iterator[ReviewMessage]:
        yield ReviewMessage("a", "x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        push(reviews(), connection, topic=topic)
    assert [review.id for review in reviews_of(connection, topic)] == ["a"]


def test_a_limit_takes_no_more_from_the_input_than_it_sends(connection: Connection, topic: str) -> None:
    taken = []

    def reviews() -> Iterator[ReviewMessage]:
        for number in range(100):
            taken.append(number)
            yield ReviewMessage(str(number), "x")

    assert push(reviews(), connection, topic=topic, limit=7).sent == 7
    assert len(taken) == 7


def test_no_more_is_in_flight_than_allowed(connection: Connection, topic: str) -> None:
    sending = Sending(connection, max_in_flight_records=50, max_in_flight_bytes=10_000)
    most_records = most_bytes = 0
    for number in range(2_000):
        sending.wait_for_room()
        sending.send(ToSend(topic, str(number), b"x" * 400))
        with sending._changed:
            most_records, most_bytes = max(most_records, sending._records), max(most_bytes, sending._bytes)
    assert sending.finish().sent == 2_000
    assert most_records <= 50
    assert most_bytes < 10_000 + 400


def test_a_missing_topic_is_told_with_how_to_make_it(
    connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Unavailable, match="no topic “nowhere”"):
        push([ReviewMessage("a", "x")], connection, topic="nowhere")
    assert run(["push", "--text", "x", "--topic", "nowhere", "--bootstrap", connection.bootstrap]) == 69
    assert "kafka-topics.sh" in capsys.readouterr().err
    with pytest.raises(Unavailable, match="no topic “nowhere”"):
        connection.partitions("nowhere")  # asking twice: the first time must not have created it


def test_the_command_reads_csv_and_names_what_it_skips(
    connection: Connection, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "reviews.csv"
    file.write_bytes(b'nr,review,stars\n1,"good, really",5\n2\n3,\xff,1\n4,bad,1\n')
    options = ["--text-column", "review", "--id-column", "nr", "--attribute-column", "stars", "--topic", topic]
    options += ["--bootstrap", connection.bootstrap]
    assert run(["push", str(file), *options]) == 65
    assert f"{file}:3: 1 fields" in capsys.readouterr().err
    assert run(["push", str(file), *options, "--on-bad-row", "skip"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"skipped {file}:3: 1 fields" in err
    assert f"skipped {file}:4: not UTF-8" in err
    assert "Pushed 2 in" in err
    assert "2 skipped" in err
    assert sorted((r.id, r.text, dict(r.attributes)) for r in reviews_of(connection, topic)) == [
        ("1", "good, really", {"stars": "5"}),
        ("1", "good, really", {"stars": "5"}),
        ("4", "bad", {"stars": "1"}),
    ]


def test_the_command_pushes_texts_just_as_they_are(connection: Connection, topic: str) -> None:
    texts = ["", "-5 stars", "--dataset", "two words"]
    options = [option for text in texts for option in ("--text", text)]
    assert run(["push", *options, "--topic", topic, "--bootstrap", connection.bootstrap, "--wire", "text"]) == 0
    assert {record.value for record in records_of(connection, topic)} == {text.encode() for text in texts}
    assert {record.key for record in records_of(connection, topic)} == {None}


def test_the_command_pushes_the_data_set(connection: Connection, topic: str) -> None:
    assert run(["push", "--dataset", "--limit", "50", "--topic", topic, "--bootstrap", connection.bootstrap]) == 0
    reviews = reviews_of(connection, topic)
    assert len({review.id for review in reviews}) == 50
    assert {review.attributes["label"] for review in reviews} == {"positive", "negative"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_on_an_endless_input_it_counts_exactly_what_arrived(
    connection: Connection, topic: str, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "producer", "push", "-", "--topic", topic, "--bootstrap", connection.bootstrap]
    with subprocess.Popen(
        [sys.executable, "-c", "while True: print('a fine film')"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as endless:
        pushing = subprocess.Popen(command, cwd=ROOT, stdin=endless.stdout, stderr=subprocess.PIPE, text=True)
        with TopicReader(connection, topic) as reader:
            for batch in reader.read(reader.earliest):
                if batch:
                    break
        pushing.send_signal(number)
        err = pushing.communicate(timeout=60)[1]
        endless.kill()
    assert pushing.returncode == 130
    assert "interrupted" in err.splitlines()[0]
    told = int(err.split()[1].replace(",", ""))
    assert told == len(records_of(connection, topic)) > 0


def test_a_reader_that_waits_for_input_lets_go_when_interrupted(connection: Connection, topic: str) -> None:
    command = [sys.executable, "-m", "producer", "push", "-", "--topic", topic, "--bootstrap", connection.bootstrap]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as pushing:
        assert pushing.stdin is not None
        pushing.stdin.write(b"one\n")
        pushing.stdin.flush()
        with TopicReader(connection, topic) as reader:
            for batch in reader.read(reader.earliest):
                if batch:
                    break  # it has sent the first line and now waits for the second
        pushing.send_signal(signal.SIGINT)
        err = pushing.communicate(timeout=60)[1]
    assert pushing.returncode == 130
    assert err.startswith(b"Pushed 1 in")
