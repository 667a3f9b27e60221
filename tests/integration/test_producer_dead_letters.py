from __future__ import annotations

import base64
import json
import time
from collections import Counter
from typing import NamedTuple

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from deploy.local.broker import Broker
from producer.__main__ import run
from producer.connection import Connection
from producer.dead_letters.finding import Filter, Found, fetch, find
from producer.dead_letters.replay import Outcome, Plan, replay
from producer.errors import NoInput, UsageError
from producer.interruption import Interruption
from producer.reading import TopicReader
from protos.dead_letters import ATTEMPTS, Cut, DeadLetterInfo, headers_for, without
from tests.conftest import MakeTopics
from worker.records import Reason, Record

REASONS = (Reason.EMPTY, Reason.MALFORMED, Reason.NOT_UTF8)
HOSTILE = b"\x1b]0;owned\x07 \xff " + "\u202e".encode() + b" [bold]markup[/bold]"


class Place(NamedTuple):
    """Where a test's records live."""

    connection: Connection
    source: str
    dead: str

    @property
    def plan(self) -> Plan:
        return Plan(topic=self.dead, group=f"replay-{self.dead}")

    @property
    def options(self) -> list[str]:
        return ["--topic", self.dead, "--bootstrap", self.connection.bootstrap]


@pytest.fixture
def place(broker: Broker, topics: MakeTopics) -> Place:
    source, dead = topics("reviews", "reviews-dead-letter")
    return Place(Connection.find(broker.bootstrap), source, dead)


def fill(place: Place, count: int, *, attempts: int = 0, value: bytes = HOSTILE, first: int = 0) -> None:
    """Dead letters as the worker writes them: in transactions of five, the reasons by turns, by key."""
    producer = KafkaProducer(bootstrap_servers=place.connection.bootstrap, transactional_id=f"worker-{place.dead}")
    producer.init_transactions()
    for number in range(first, first + count):
        if number % 5 == 0 or number == first:
            producer.begin_transaction()
        original = [("content-type", b"text/plain"), ("x", b"\x00\xff"), ("x", b"again")]
        if attempts:
            original.append((ATTEMPTS, str(attempts).encode()))
        info = DeadLetterInfo(
            topic=place.source, partition=number % 3, offset=number, reason=REASONS[number % 3], message=f"No {number}.",
            stage="decode", connector_name="inferry-worker", failed_at_ms=1_700_000_000_000 + number,
        )  # fmt: skip
        producer.send(place.dead, value + str(number).encode(), f"key-{number}".encode(), headers_for(original, info))
        if number % 5 == 4 or number == first + count - 1:
            producer.commit_transaction()
    producer.close()


def records_of(connection: Connection, topic: str) -> list[Record]:
    with TopicReader(connection, topic) as reader:
        return [record for batch in reader.read(reader.earliest, reader.end) for record in batch]


def numbers_in(place: Place) -> Counter[int]:
    """How often each dead letter came back to the source topic."""
    return Counter(int((record.key or b"").split(b"-")[1]) for record in records_of(place.connection, place.source))


def rerun(place: Place, **changes: object) -> Outcome:
    fields = {name: getattr(place.plan, name) for name in Plan.__dataclass_fields__}
    return replay(place.connection, Plan(**fields | changes))


# --- list and show -----------------------------------------------------------------------------------------------


def test_all_are_found_and_filters_narrow(place: Place) -> None:
    fill(place, 30)
    everything = list(find(place.connection, place.dead))
    assert sorted(found.info.offset for found in everything) == list(range(30))
    some = list(find(place.connection, place.dead, Filter(reasons=["empty"], partitions=[0, 2])))
    assert some == [found for found in everything if found.info.reason == "empty" and found.record.partition != 1]
    with pytest.raises(UsageError, match="no partition 7, only 0 to 2"):
        list(find(place.connection, place.dead, Filter(partitions=[7])))


def test_a_time_filter_takes_exactly_what_was_written_then(place: Place) -> None:
    fill(place, 9)
    time.sleep(0.01)
    boundary = round(time.time() * 1000)
    time.sleep(0.01)
    fill(place, 6, first=9)
    since = find(place.connection, place.dead, Filter(since_ms=boundary))
    until = find(place.connection, place.dead, Filter(until_ms=boundary))
    assert sorted(found.info.offset for found in since) == list(range(9, 15))
    assert sorted(found.info.offset for found in until) == list(range(9))
    assert list(find(place.connection, place.dead, Filter(since_ms=boundary + 3_600_000))) == []


def test_list_prints_the_newest_and_counts_all(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place, 31)
    assert run(["dead-letters", "list", "--limit", "2", *place.options]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert [line[-1] for line in lines[1:3]] == ["29.", "30."]
    assert "31 dead letters, the newest 2 shown" in out
    assert [(line[0], line[1]) for line in lines[-3:]] == [("empty", "11"), ("malformed", "10"), ("not-utf8", "10")]
    bars = [line[-1] for line in lines[-3:]]
    assert len(bars[0]) == 40
    assert set(bars[0]) == {"█"}
    assert len(bars[1]) < 40
    assert run(["dead-letters", "list", "-o", "json", *place.options]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert Counter(each["reason"] for each in told) == {"empty": 11, "malformed": 10, "not-utf8": 10}


def test_an_empty_topic_is_said_to_be_empty(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letters", "list", *place.options]) == 0
    assert "No dead letters" in capsys.readouterr().err


def test_show_prints_anything_safely_and_cut(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place, 1, value=HOSTILE + b"x" * 5000)
    [found] = find(place.connection, place.dead)
    assert run(["dead-letters", "show", found.position, "--max-bytes", "60", *place.options]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert r"\u001b]0;owned\u0007 \xff \u202e [bold]markup[/bold]" in out
    assert "[60 of 5,037 bytes shown]" in out
    assert r"x = \u0000\xff" in out
    for fact in ("empty, at decode", f"{place.source}/0/0", "key-0", "No 0.", "inferry-worker"):
        assert fact in out


def test_show_gives_every_byte_as_json(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place, 1)
    [found] = find(place.connection, place.dead)
    assert run(["dead-letters", "show", found.position, "-o", "json", *place.options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert base64.b64decode(told["value_base64"]) == HOSTILE + b"0"
    headers = [(name, base64.b64decode(value)) for name, value in told["headers_base64"]]
    assert headers == list(found.record.headers)


def test_show_says_what_is_there_where_nothing_is(place: Place) -> None:
    fill(place, 6)
    [*letters] = find(place.connection, place.dead)
    assert fetch(place.connection, place.dead, letters[0].position) == letters[0]
    taken = {(found.record.partition, found.record.offset) for found in letters}
    with TopicReader(place.connection, place.dead) as reader:
        marker = next((p, o) for p, end in reader.end.items() for o in range(end) if (p, o) not in taken)
    for partition, offset in (marker, (0, 99), (7, 0)):
        with pytest.raises(NoInput):
            fetch(place.connection, place.dead, f"{partition}/{offset}")
    with pytest.raises(UsageError, match="PARTITION/OFFSET"):
        fetch(place.connection, place.dead, "0-1")


# --- replay ------------------------------------------------------------------------------------------------------


def test_a_replay_sends_every_byte_back_where_it_came_from(place: Place) -> None:
    fill(place, 30)
    letters = {found.record.key: found.record for found in find(place.connection, place.dead)}
    outcome = replay(place.connection, place.plan)
    assert (outcome.summary.sent, outcome.exit_code) == (30, 0)
    assert outcome.chosen == {"empty": 10, "malformed": 10, "not-utf8": 10}
    back = records_of(place.connection, place.source)
    assert len(back) == 30
    for record in back:
        letter = letters[record.key]
        assert record.value == letter.value
        assert list(record.headers) == [*without(letter.headers), (ATTEMPTS, b"1")]
        assert record.partition == int((record.key or b"").split(b"-")[1]) % 3


def test_a_second_replay_sends_only_what_is_new(place: Place) -> None:
    fill(place, 10)
    assert rerun(place).summary.sent == 10
    again = rerun(place)
    assert (again.summary.sent, again.before) == (0, True)
    fill(place, 5, first=10)
    assert rerun(place).summary.sent == 5
    assert numbers_in(place) == dict.fromkeys(range(15), 1)


def test_replays_by_reason_and_in_parts_leave_nothing_out_and_send_nothing_twice(place: Place) -> None:
    fill(place, 60)
    assert rerun(place, wanted=Filter(reasons=["malformed"])).summary.sent == 20
    assert rerun(place, wanted=Filter(partitions=[1]), limit=3).summary.sent == 3
    assert rerun(place, limit=7).summary.sent == 7
    assert rerun(place, wanted=Filter(reasons=["empty", "malformed"])).summary.sent <= 20
    fill(place, 10, first=60)
    rerun(place)
    assert numbers_in(place) == dict.fromkeys(range(70), 1)
    assert rerun(place).summary.sent == 0


def test_again_sends_them_again_and_forgets_nothing(place: Place) -> None:
    fill(place, 12)
    rerun(place)
    assert rerun(place, again=True, wanted=Filter(reasons=["empty"])).summary.sent == 4
    assert rerun(place).summary.sent == 0
    assert numbers_in(place) == {number: 2 if number % 3 == 0 else 1 for number in range(12)}


def test_what_fails_anew_during_a_replay_waits_for_the_next(place: Place) -> None:
    fill(place, 10)
    late = []

    def fail_anew(found: Found, _topic: str) -> None:
        if not late:
            late.append(found)
            fill(place, 10, first=10, attempts=1)

    assert replay(place.connection, place.plan, on_chosen=fail_anew).summary.sent == 10
    assert rerun(place).summary.sent == 10


def test_a_record_replayed_often_enough_is_refused(place: Place) -> None:
    fill(place, 4, attempts=2)
    fill(place, 6, attempts=3, first=4)
    outcome = rerun(place)
    assert outcome.summary.sent == 4
    assert outcome.refused == {"replayed 3 times already (--max-attempts 3)": 6}
    attempts = {dict(record.headers)[ATTEMPTS] for record in records_of(place.connection, place.source)}
    assert attempts == {b"3"}
    assert rerun(place, max_attempts=4).summary.sent == 6  # a refused one was not counted as replayed


def test_a_dry_run_sends_and_remembers_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place, 9)
    command = ["dead-letters", "replay", "--group", place.plan.group, *place.options]
    assert run([*command, "--dry-run", "--reason", "empty"]) == 0
    out, err = capsys.readouterr()
    assert "Would replay 3; nothing was sent." in err
    assert sum(place.source in line for line in out.splitlines()) == 3
    assert numbers_in(place) == {}
    assert run(command) == 0
    assert "Replayed 9 in" in capsys.readouterr().err
    assert numbers_in(place) == dict.fromkeys(range(9), 1)


def test_another_topic_may_be_named(place: Place, topics: MakeTopics) -> None:
    fill(place, 5)
    [other] = topics("other", partitions=1)
    assert rerun(place, to=other).summary.partitions == {f"{other}/0": 5}
    outcome = rerun(place, to="nowhere", again=True)
    assert outcome.summary.sent == 0
    assert "no topic “nowhere”" in str(outcome.summary.error)
    assert outcome.exit_code == 69


def test_what_cannot_be_sent_is_refused_and_the_rest_goes(place: Place) -> None:
    producer = KafkaProducer(bootstrap_servers=place.connection.bootstrap)
    producer.send(place.dead, b"no headers of ours")
    gone = DeadLetterInfo(topic="gone", partition=0, offset=0, reason="empty")
    producer.send(place.dead, b"from a topic that is gone", headers=headers_for((), gone))
    producer.close()
    fill(place, 2)
    outcome = rerun(place)
    assert outcome.summary.sent == 2
    assert sorted(outcome.refused) == [
        "its headers name no source topic (say --to)",
        "its source topic “gone” does not exist or is closed to us",
    ]


def test_what_is_not_whole_is_shown_with_its_digest_and_never_replayed(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = {"value": Cut.of(b"v" * 5_000), "key": Cut.of(b"k" * 3_000)}
    info = DeadLetterInfo(topic=place.source, partition=1, offset=7, reason="too-large", cut=cut)
    producer = KafkaProducer(bootstrap_servers=place.connection.bootstrap)
    producer.send(place.dead, b"", b"", headers=headers_for([("x", b"y")], info))
    producer.close()
    fill(place, 2)
    outcome = rerun(place, again=True)
    assert outcome.summary.sent == 2
    assert [*outcome.refused] == [
        "not whole: what it lacks was too large to keep (`dead-letters show` says where it lies)"
    ]
    [found] = find(place.connection, place.dead, Filter(reasons=["too-large"]))
    assert run(["dead-letters", "show", found.position, *place.options]) == 0
    out = "".join(capsys.readouterr().out.split())
    assert f"{place.source}/1/7" in out
    for part in cut.values():
        assert f"{part.size_bytes:,}bytes,sha256{part.sha256}" in out
    assert run(["dead-letters", "list", "-o", "json", "--reason", "too-large", *place.options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cut"]["key"] == {"size_bytes": 3_000, "sha256": cut["key"].sha256}


def test_what_is_not_acknowledged_is_not_remembered(place: Place, topics: MakeTopics) -> None:
    fill(place, 3, value=b"x" * 2_000)
    [small] = topics("small", partitions=1)
    set_config(place.connection.bootstrap, small, "max.message.bytes", "1000")
    outcome = rerun(place, to=small)
    assert (outcome.summary.sent, outcome.summary.failed, outcome.exit_code) == (0, 3, 1)
    assert rerun(place).summary.sent == 3


def test_an_interrupted_replay_remembers_what_it_sent(place: Place) -> None:
    fill(place, 50)
    interruption = Interruption()
    chosen = []

    def interrupt(found: Found, _topic: str) -> None:
        chosen.append(found)
        interruption.asked = len(chosen) == 20

    outcome = replay(place.connection, place.plan, on_chosen=interrupt, interruption=interruption)
    assert outcome.summary.interrupted
    assert 0 < outcome.summary.sent < 50
    assert outcome.exit_code == 130
    rerun(place)
    assert numbers_in(place) == dict.fromkeys(range(50), 1)


def test_a_topic_made_anew_is_not_taken_for_replayed(place: Place, topics: MakeTopics) -> None:
    fill(place, 30)
    rerun(place)
    admin = KafkaAdminClient(bootstrap_servers=place.connection.bootstrap)
    admin.delete_topics([place.dead])
    wait_until_gone(admin, place.dead)
    admin.create_topics({place.dead: {"num_partitions": 3, "replication_factor": 1}}, wait_for_metadata=True)
    admin.close()
    fill(place, 3, first=100)
    rerun(place)
    assert set(numbers_in(place)) == {*range(30), 100, 101, 102}


def wait_until_gone(admin: KafkaAdminClient, topic: str) -> None:
    deadline = time.monotonic() + 60
    while topic in admin.list_topics():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def set_config(bootstrap: str, topic: str, name: str, value: str) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])
    finally:
        admin.close()
