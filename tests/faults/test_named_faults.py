"""Faults with an outcome of their own, each on topics of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from tests.faults.checker import Expected, Report, Topics, check_topics
from tests.faults.faulty_server import Mood
from tests.faults.reviews import POISON, Reviews
from tests.faults.worker_with_faults import arm
from tests.faults.world import World
from tests.support.harness import end_offsets, produce, read_committed, review_json, wait_for, wait_for_lag_zero
from worker.errors import ExitCode
from worker.kafka.drivers import MAKERS
from worker.records import Record


def judged(
    world: World,
    topics: Topics,
    reviews: Reviews,
    reasons: dict[bytes, str] | None = None,
    *,
    may_repeat: bool = False,
    lag_zero: bool = True,
) -> Report:
    """The checker's report once everything is answered. `reasons`: values that must become dead letters, and why;
    `may_repeat`: under at-least-once; without `lag_zero` it is judged as it is now."""
    wanted = reasons or {}

    def expect(record: Record) -> Expected:
        reason = wanted.get(record.value or b"")
        return Expected(reasons=frozenset({reason})) if reason else reviews.expect(record)

    if lag_zero:
        wait_for_lag_zero(topics.bootstrap, topics.group, topics.reviews)
    report = check_topics(topics, expect, history=world.history.path)
    assert not report.violations.keys() - ({"duplicated"} if may_repeat else set()), f"{report}\n{report.shown}"
    return report


pytestmark = pytest.mark.lasts(10)
both_clients = pytest.mark.parametrize("kafka_client", MAKERS)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def send(topics: Topics, reviews: Reviews, first: int, last: int, *values: bytes) -> None:
    """Reviews that have a score, by their numbers, and other values after them."""
    produce(topics.bootstrap, topics.reviews, [*(review_json(text) for text in reviews.texts[first:last]), *values])


@both_clients
def test_two_workers_with_one_transactional_id_end_with_one_of_them(
    world: World, reviews: Reviews, closing: ExitStack, kafka_client: str
) -> None:
    topics = world.fresh_topics()
    workers = [
        closing.enter_context(
            world.worker(topics, name, kafka_client=kafka_client, transactional_id="the-same", window_records=20)
        )
        for name in ("one", "other")
    ]

    def fenced() -> list[int | None]:
        send(topics, reviews, 0, 60)
        return [code for code in (worker.exit_code for worker in workers) if code is not None]

    wait_for(fenced, 90, "the end of one of them", every_seconds=0.5)
    assert fenced() == [ExitCode.FENCED]
    [ended] = [worker for worker in workers if worker.exit_code is not None]
    assert "give each worker its own with --transactional-id" in ended.log
    judged(world, topics, reviews)


@both_clients
def test_a_dead_letter_topic_that_is_gone_is_waited_for(
    world: World, reviews: Reviews, closing: ExitStack, kafka_client: str
) -> None:
    topics = world.fresh_topics()
    worker = closing.enter_context(world.worker(topics, "only", kafka_client=kafka_client).wait_ready())
    admin = KafkaAdminClient(bootstrap_servers=topics.bootstrap)
    closing.callback(admin.close)
    admin.delete_topics([topics.dead])
    send(topics, reviews, 0, 50, b"", *(review_json(text) for text in reviews.texts[50:90]))
    wait_for(lambda: "trying again" in worker.log or "dropped" in worker.log, 60, "the failed delivery")
    assert worker.exit_code is None, worker.log
    admin.create_topics({topics.dead: {"num_partitions": 3, "replication_factor": 1}}, wait_for_metadata=True)
    report = judged(world, topics, reviews)
    assert (report.results, report.dead_letters) == (90, 1)


@both_clients
def test_a_result_larger_than_the_broker_takes_is_a_dead_letter_and_its_neighbours_are_not(
    world: World, reviews: Reviews, closing: ExitStack, kafka_client: str
) -> None:
    topics = world.fresh_topics(max_message_bytes="1000")
    large = [review_json(reviews.texts[n], review_id="x" * 1_000) for n in range(3)]
    reasons = dict.fromkeys(large, "result-too-large")
    send(topics, reviews, 0, 40, large[0], b"", large[1], b"", large[2], *(map(review_json, reviews.texts[40:80])))
    closing.enter_context(world.worker(topics, "only", kafka_client=kafka_client))
    report = judged(world, topics, reviews, reasons)
    assert (report.results, report.dead_letters) == (80, 5)


@both_clients
@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_results_whose_batches_are_larger_than_the_broker_takes_arrive_in_smaller_ones(
    world: World, reviews: Reviews, closing: ExitStack, kafka_client: str, delivery: str
) -> None:
    topics = world.fresh_topics(partitions=1, max_message_bytes="100000")
    values = [review_json(text, review_id=str(n) * 200) for n, text in enumerate(reviews.texts)]
    produce(topics.bootstrap, topics.reviews, values)
    closing.enter_context(
        world.worker(topics, "only", kafka_client=kafka_client, delivery=delivery, window_records=1_500)
    )
    report = judged(world, topics, reviews, may_repeat=delivery == "at-least-once")
    assert report.results - report.duplicated == len(values)


def test_a_review_that_crashes_the_server_is_found_and_the_others_are_answered(
    world: World, reviews: Reviews, closing: ExitStack
) -> None:
    topics = world.fresh_topics(partitions=1)
    poison = [review_json(f"{reviews.texts[n]} {POISON} in it") for n in range(2)]
    # What a crash looks like from outside: every call under way ends, whatever it asked.
    spare = world.spares[0]
    world.server.on_poison = spare.serving.cut
    closing.callback(setattr, world.server, "on_poison", lambda: None)
    send(topics, reviews, 0, 100, poison[0], *(map(review_json, reviews.texts[100:300])), poison[1])
    closing.enter_context(world.worker(topics, "only", serving=spare.serving.address))
    report = judged(world, topics, reviews, dict.fromkeys(poison, "crashes-model"))
    assert (report.results, report.dead_letters) == (300, 2)


@pytest.mark.lasts(50)
@pytest.mark.parametrize(
    ("mood", "seconds"), [(Mood.FULL, 120), (Mood.EXHAUSTED, 15), (Mood.UNAVAILABLE, 15), (Mood.HUNG, 15)]
)
def test_an_outage_dead_letters_nothing_and_leaves_the_worker_alive(
    world: World, reviews: Reviews, closing: ExitStack, mood: Mood, seconds: int
) -> None:
    topics = world.fresh_topics()
    worker = closing.enter_context(world.worker(topics, "only", stall_seconds=7).wait_ready())
    closing.callback(setattr, world.server, "mood", Mood.WELL)
    world.server.mood = mood
    send(topics, reviews, 0, 500)
    held = 0
    for _ in range(2 * seconds):
        assert worker.get("/livez")[0] == 200, worker.get("/livez")
        held += worker.get("/readyz")[0] == 503
        with pytest.raises(TimeoutError):
            wait_for(lambda: worker.exit_code is not None, 0.5, "an end that must not come")
    assert held > seconds / 2, "it says that it holds"
    world.server.mood = Mood.WELL
    report = judged(world, topics, reviews)
    assert (report.results, report.dead_letters) == (500, 0)
    assert worker.ready()


def test_a_worker_that_gets_nowhere_is_not_alive_until_it_does(
    world: World, reviews: Reviews, closing: ExitStack, tmp_path: Path
) -> None:
    """It stands still by itself, between the scores and the transaction: the model server answers all the while."""
    topics, arms = world.fresh_topics(), tmp_path / "arms"
    worker = closing.enter_context(
        world.worker(topics, "only", arms=arms, request_timeout_seconds=1, stall_seconds=3).wait_ready()
    )
    arm(arms, "predict", action="9")
    send(topics, reviews, 0, 100)
    wait_for(lambda: worker.get("/livez")[0] == 503, 30, "the stall")
    assert "was delivered for" in worker.get("/livez")[1]
    wait_for(lambda: worker.get("/livez")[0] == 200, 30, "its end")
    assert judged(world, topics, reviews).results == 100


@both_clients
def test_records_of_aborted_transactions_are_no_input_and_a_bounded_run_ends_after_their_marks(
    world: World, reviews: Reviews, closing: ExitStack, kafka_client: str
) -> None:
    topics = world.fresh_topics(partitions=2)
    producer = KafkaProducer(bootstrap_servers=topics.bootstrap, transactional_id=f"feed-of-{topics.reviews}")
    producer.init_transactions()
    for turn in range(6):
        producer.begin_transaction()
        for text in reviews.texts[turn * 20 : turn * 20 + 20]:
            producer.send(topics.reviews, review_json(text))
        producer.commit_transaction() if turn % 2 else producer.abort_transaction()
    producer.close()
    worker = closing.enter_context(world.worker(topics, "only", kafka_client=kafka_client, until="end"))
    assert worker.wait(60) == ExitCode.OK, worker.log
    report = judged(world, topics, reviews, lag_zero=False)  # the last marks of transactions count as lag, and stay
    assert report.messages == report.results == 60


@both_clients
def test_memory_is_bounded_however_many_words_there_are(
    world: World, reviews: Reviews, closing: ExitStack, kafka_client: str
) -> None:
    """Every review brings words never seen before; whatever keeps words grows without a bound."""
    topics = world.fresh_topics()
    worker = closing.enter_context(
        world.worker(topics, "only", kafka_client=kafka_client, audit_headers=False).wait_ready()
    )
    sizes = []
    for turn in range(4):
        values = [f"{' '.join(f'w{turn}x{n}x{word}' for word in range(60))}" for n in range(4_000)]
        produce(topics.bootstrap, topics.reviews, values)
        wait_for_lag_zero(topics.bootstrap, topics.group, topics.reviews)
        sizes.append(worker.rss_bytes())
    # 240,000 new words a turn, at some 200 bytes each, would be about 50 MB.
    assert sizes[-1] - sizes[0] < 16 * 1024**2, sizes


@both_clients
def test_partitions_added_while_running_are_read(
    world: World, reviews: Reviews, closing: ExitStack, kafka_client: str
) -> None:
    topics = world.fresh_topics(partitions=1)
    closing.enter_context(world.worker(topics, "only", kafka_client=kafka_client).wait_ready())
    send(topics, reviews, 0, 50)
    admin = KafkaAdminClient(bootstrap_servers=topics.bootstrap)
    admin.create_partitions({topics.reviews: 3})
    admin.close()
    wait_for(lambda: len(end_offsets(topics.bootstrap, topics.reviews)) == 3, 30, "the partitions")
    send(topics, reviews, 50, 300)
    report = judged(world, topics, reviews)
    assert report.results == 300
    assert {record.partition for record in read_committed(topics.bootstrap, topics.reviews)} == {0, 1, 2}
