"""Runs with a beginning and an end, and what happens when the place to go on at is gone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from tests.integration.conftest import both_clients
from tests.support.harness import end_offsets, review_json, wait_for
from tests.support.worker_world import WAIT_SECONDS, World, delivered, held_partitions, logged, some_reviews, total

SOME_DAY_MS = 1_700_000_000_000
SECOND_MS = 1_000


def iso(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat()


def push_timed(world: World, count: int) -> None:
    """Review n of each partition bears the timestamp SOME_DAY + n seconds."""
    producer = KafkaProducer(bootstrap_servers=world.bootstrap)
    for partition in range(world.partitions):
        for number, text in enumerate(some_reviews(count, seed=partition)):
            at = SOME_DAY_MS + number * SECOND_MS
            producer.send(world.reviews, review_json(text), partition=partition, timestamp_ms=at)
    producer.flush(WAIT_SECONDS)
    producer.close()


def answered(world: World) -> dict[int, list[int]]:
    """By partition the offsets that have a result, in the order of the results."""
    offsets: dict[int, list[int]] = {partition: [] for partition in range(world.partitions)}
    for result in world.results():
        offsets[result.source_partition].append(result.source_offset)
    return offsets


@pytest.mark.parametrize(
    ("settings", "first", "last"),
    [
        ({"start": "earliest", "until": "end"}, (0, 0, 0), 30),
        ({"until": "end"}, (20, 20, 20), 30),
        ({"start": iso(SOME_DAY_MS + 7 * SECOND_MS), "until": "end"}, (7, 7, 7), 30),
        ({"start": iso(SOME_DAY_MS + 6 * SECOND_MS + 1), "until": iso(SOME_DAY_MS + 9 * SECOND_MS)}, (7, 7, 7), 9),
        ({"start": "0:25,2:3", "until": "end"}, (25, 20, 3), 30),
        ({"start": "latest", "until": "end"}, (30, 30, 30), 30),
    ],
)
def test_a_bounded_run_answers_what_lies_between_once_and_ends(
    world: World, settings: dict[str, str], first: tuple[int, ...], last: int
) -> None:
    push_timed(world, 30)
    world.commit(dict.fromkeys(range(world.partitions), 20))
    worker = world.worker(**settings, window_records=8)
    assert worker.wait() == 0
    between = {partition: list(range(first[partition], last)) for partition in range(world.partitions)}
    wait_for(lambda: sum(map(len, answered(world).values())) >= sum(map(len, between.values())), 20, "every answer")
    assert answered(world) == between
    expected = {partition: max(last, first[partition]) for partition in between}
    assert world.committed() == expected
    [summary] = logged(worker, "summary")
    assert summary["complete"] is True
    assert sum(summary["results"].values()) == sum(map(len, between.values()))
    assert summary["dead_letters"] == {}


def test_a_bounded_run_that_is_stopped_before_its_end_says_so(world: World) -> None:
    push_timed(world, 400)
    worker = world.worker(start="earliest", until="end", window_records=8, batch_rows=1)
    wait_for(lambda: delivered(worker) > 0, WAIT_SECONDS, "the first answers")
    assert worker.stop() == 0
    [summary] = logged(worker, "summary")
    assert sum(summary["results"].values()) < 400 * world.partitions
    assert summary["complete"] is False


def test_a_bounded_run_of_an_empty_topic_ends_at_once(world: World) -> None:
    assert world.worker(start="earliest", until="end").wait() == 0
    assert world.results() == []


@both_clients
@pytest.mark.parametrize("ending", ["commit", "abort"])
def test_a_bounded_run_ends_although_a_transactions_mark_is_the_last_in_the_topic(world: World, ending: str) -> None:
    """The marks that a transactional producer leaves take up offsets which no consumer is ever given."""
    transactional_push(world, some_reviews(9), commit=True)
    if ending == "abort":
        transactional_push(world, some_reviews(9), commit=False)
    worker = world.worker(start="earliest", until="end")
    assert worker.wait() == 0
    wait_for(lambda: len(world.results()) >= 9, 20, "every answer")
    assert len(world.results()) == 9


@both_clients
def test_what_no_consumer_is_given_is_no_lag(world: World) -> None:
    transactional_push(world, some_reviews(9), commit=True)
    worker = world.worker()
    wait_for(lambda: delivered(worker) == 9, WAIT_SECONDS, "every answer")
    # Something arrives after it: from then on the worker knows where each partition ends.
    world.push(map(review_json, some_reviews(3)), partition=0)
    wait_for(lambda: delivered(worker) == 12, WAIT_SECONDS, "the last answers")
    wait_for(lambda: total(worker, "inferry_lag_records") == 0, 20, "no lag")
    assert held_partitions(worker) == {0, 1, 2}


def transactional_push(world: World, texts: list[str], *, commit: bool) -> None:
    producer = KafkaProducer(bootstrap_servers=world.bootstrap, transactional_id=f"{world.reviews}-producer")
    producer.init_transactions()
    producer.begin_transaction()
    for number, text in enumerate(texts):
        producer.send(world.reviews, review_json(text), partition=number % world.partitions)
    producer.flush(WAIT_SECONDS)
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()
    producer.close()
    wait_for(lambda: sum(end_offsets(world.bootstrap, world.reviews).values()) > len(texts), 20, "the marks")


@both_clients
def test_a_start_is_refused_while_the_group_has_members(world: World) -> None:
    world.push(map(review_json, some_reviews(9)))
    running = world.worker().wait_ready()
    world.assert_each_once()
    second = world.worker(start="earliest", transactional_id=f"{world.group}.1")
    assert second.wait() == 78
    assert f"the offsets of group {world.group} cannot be set: it still has members" in second.log
    assert "Stop all of its workers" in second.log
    assert running.stop() == 0
    world.assert_each_once()


@pytest.mark.parametrize(("start", "said"), [("7:0", "has 3, from 0 on"), ("0:5", "there are 0 to 0")])
def test_a_start_that_is_not_in_the_topic_is_refused(world: World, start: str, said: str) -> None:
    worker = world.worker(start=start)
    assert worker.wait() == 78
    assert said in worker.log


@both_clients
def test_records_deleted_before_they_were_read_are_never_skipped_silently(world: World) -> None:
    world.push(map(review_json, some_reviews(30)), partition=1)
    world.commit({1: 10})
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    admin.delete_records({TopicPartition(world.reviews, 1): 20})
    admin.close()
    worker = world.worker()
    assert worker.wait() == 6
    assert "records were deleted before they were read" in worker.log
    assert "--from earliest" in worker.log
    assert world.committed()[1] == 10, "nothing may be committed past what was lost"
    assert world.worker(start="earliest", until="end").wait() == 0
    wait_for(lambda: len(world.results()) >= 10, 20, "every answer")
    assert answered(world)[1] == list(range(20, 30))


def test_a_topic_made_anew_is_read_from_its_start_where_kafka_has_dropped_the_old_offsets(world: World) -> None:
    world.push(map(review_json, some_reviews(12)), partition=0)
    assert world.worker(until="end").wait() == 0
    make_anew(world)
    assert world.committed() == {}, "brokers forget the offsets of a topic with the topic"
    world.push(map(review_json, some_reviews(20, seed=1)), partition=0)
    assert world.worker(until="end").wait() == 0
    wait_for(lambda: len(world.results()) >= 32, 20, "every answer")
    assert answered(world)[0] == [*range(12), *range(20)]


@both_clients
def test_offsets_of_a_topic_that_was_made_anew_are_not_used_and_the_way_out_works(world: World) -> None:
    """A commit that was under way when the topic was recreated: its offsets are in range, but of another topic."""
    world.push(map(review_json, some_reviews(12)), partition=0)
    assert world.worker(until="end").wait() == 0
    identity = topic_identity(world)
    make_anew(world)
    world.push(map(review_json, some_reviews(20, seed=1)), partition=0)
    world.commit({0: 12}, metadata=identity)
    worker = world.worker()
    assert worker.wait() == 6
    assert (
        f"the topic {world.reviews} was deleted and recreated since offset 12 of partition 0 was committed"
        in worker.log
    )
    assert "--from earliest" in worker.log
    assert len(world.results()) == 12
    assert world.worker(start="earliest", until="end").wait() == 0
    wait_for(lambda: len(world.results()) >= 32, 20, "every answer")
    assert answered(world)[0] == [*range(12), *range(20)]


@both_clients
def test_a_topic_made_anew_under_a_running_worker_is_not_taken_for_the_old_one(world: World) -> None:
    world.push(map(review_json, some_reviews(12)), partition=0)
    worker = world.worker()
    world.assert_each_once()
    make_anew(world)
    world.push(map(review_json, some_reviews(20, seed=1)), partition=0)
    assert worker.wait(WAIT_SECONDS) == 6
    # Told either by the topic's id or, if the new topic is still shorter, by an offset that is out of range.
    assert "recreated" in worker.log
    assert "--from earliest" in worker.log
    assert len(world.results()) == 12


def topic_identity(world: World) -> str:
    """The topic's id as the worker has written it beside the offsets of partition 0."""
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    try:
        offsets = admin.list_group_offsets({world.group: None})[world.group]
    finally:
        admin.close()
    identity = str(offsets[TopicPartition(world.reviews, 0)].metadata)
    assert identity
    return identity


def make_anew(world: World) -> None:
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    try:
        admin.delete_topics([world.reviews])
        wait_for(lambda: world.reviews not in admin.list_topics(), 30, "the topic's end")
        admin.create_topics(
            {world.reviews: {"num_partitions": world.partitions, "replication_factor": 1}}, wait_for_metadata=True
        )
    finally:
        admin.close()
