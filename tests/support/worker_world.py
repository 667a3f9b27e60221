"""A worker's world: three fresh topics, a group of its own, the model's offline scores, and workers as processes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from protos import dead_letters
from protos.codecs import ResultMessage, decode_result
from tests.conftest import create_topics
from tests.support.harness import (
    WorkerProcess,
    committed_offsets,
    end_offsets,
    lag,
    produce,
    read_committed,
    review_json,
    wait_for,
)
from tests.support.models import BAD, GOOD, PLAIN, TinyModel
from worker.kafka.drivers import DEFAULT
from worker.records import Record

WAIT_SECONDS = 90.0
BROKERS_SHORTEST_SESSION_SECONDS = 6
"""`group.min.session.timeout.ms`, as brokers have it by default."""

QUICK = {
    # Each limit contains the one before; together they are short enough for a test to outlast them.
    "kafka_request_timeout_seconds": 2.5,
    "kafka_delivery_timeout_seconds": 3,
    "transaction_timeout_seconds": 4,
    "session_timeout_seconds": BROKERS_SHORTEST_SESSION_SECONDS,
    "max_poll_interval_seconds": 30,
    "model_poll_seconds": 0.3,
    "max_retry_delay_seconds": 0.5,
}


class World:
    """The surroundings of one test's workers. Topics and group are fresh; workers still running at the end are killed."""

    def __init__(
        self,
        bootstrap: str,
        serving: str,
        folder: Path,
        *,
        partitions: int = 3,
        output_partitions: int | None = None,
        kafka_client: str = DEFAULT,
    ) -> None:
        self.bootstrap = bootstrap
        self.serving = serving
        self.folder = folder
        [self.reviews] = create_topics(bootstrap, "reviews", partitions=partitions)
        self.labels, self.dead = create_topics(
            bootstrap, "review-labels", "reviews-dead-letter", partitions=output_partitions or partitions
        )
        self.partitions = partitions
        self.kafka_client = kafka_client
        self.group = f"group-of-{self.reviews}"
        self._workers: list[WorkerProcess] = []

    def settings(self, **more: object) -> dict[str, object]:
        """What this world's workers are started with."""
        return {
            "bootstrap": self.bootstrap,
            "serving": self.serving,
            "input_topic": self.reviews,
            "output_topic": self.labels,
            "dead_letter_topic": self.dead,
            "group": self.group,
            "kafka_client": self.kafka_client,
            **QUICK,
            **more,
        }

    def worker(self, environment: Mapping[str, str] | None = None, **more: object) -> WorkerProcess:
        """Starts one. Without `transactional_id` all share one, so a second live worker needs its own."""
        log_path = self.folder / f"worker-{len(self._workers)}.log"
        worker = WorkerProcess(self.settings(**more), log_path, environment=environment)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()

    # --- in and out ----------------------------------------------------------------------------------------------

    def push(self, values: Iterable[str | bytes | None], **options: Any) -> int:
        """Sends records to the input topic; see `harness.produce`."""
        return produce(self.bootstrap, self.reviews, values, **options)

    def wait_until_answered(self) -> None:
        """Blocks until the group has committed everything there is."""
        wait_for(lambda: self.lag() == 0, WAIT_SECONDS, f"lag 0 on {self.reviews}", every_seconds=0.3)

    def lag(self) -> int | None:
        """Records that the group has not committed; None while the broker cannot tell."""
        try:
            return lag(self.bootstrap, self.group, self.reviews)
        except KafkaError:  # a new broker has no coordinator at first, one that restarts none for a while
            return None

    def committed(self) -> dict[int, int]:
        return committed_offsets(self.bootstrap, self.group, self.reviews)

    def commit(self, offsets: Mapping[int, int], metadata: str = "") -> None:
        """Sets the group's offsets by hand, as an operator may; the group must have no members."""
        wait_for(lambda: self.lag() is not None, WAIT_SECONDS, "the group's coordinator")
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            named = {TopicPartition(self.reviews, n): OffsetAndMetadata(at, metadata, -1) for n, at in offsets.items()}
            outcome = admin.alter_group_offsets(self.group, named)
            assert all(error.errno == 0 for error in outcome.values()), outcome
        finally:
            admin.close()

    def inputs(self) -> dict[str, Record]:
        """Every input record by its result id."""
        return {record.result_id: record for record in read_committed(self.bootstrap, self.reviews)}

    def results(self) -> list[ResultMessage]:
        """Partition by partition, each in its order."""
        return [decode_result(record.value, record.headers) for record in read_committed(self.bootstrap, self.labels)]

    def dead_letters(self) -> dict[str, tuple[Record, dead_letters.DeadLetterInfo]]:
        """By the id of the record that each is about; of those repeated under at-least-once, the last."""
        return {source: (record, told) for source, record, told in self._dead_letters()}

    def _dead_letters(self) -> Iterable[tuple[str, Record, dead_letters.DeadLetterInfo]]:
        for record in read_committed(self.bootstrap, self.dead):
            told = dead_letters.parse(record.headers)
            yield f"{told.topic}/{told.partition}/{told.offset}", record, told

    def answers(self) -> Counter[str]:
        """How many results and dead letters there are of each input, once everything is answered and visible."""
        self.wait_until_answered()
        wanted = sum(end_offsets(self.bootstrap, self.reviews).values())
        answers: Counter[str] = Counter()

        def visible() -> bool:
            # The offsets of a transaction may be visible a moment before its records are.
            nonlocal answers
            answers = self.visible_answers()
            return len(answers) >= wanted

        wait_for(visible, WAIT_SECONDS, f"{wanted} answers")
        return answers

    def visible_answers(self) -> Counter[str]:
        """How many results and dead letters of each input a read_committed consumer sees now."""
        return Counter(
            [*(result.result_id for result in self.results()), *(source for source, *_ in self._dead_letters())]
        )

    def assert_each_once(self) -> None:
        """Exactly one answer for each input, none for anything else."""
        answers = self.answers()
        expected = set(self.inputs())
        twice = {source: count for source, count in answers.items() if count > 1}
        assert not twice
        assert set(answers) == expected

    def assert_none_lost(self) -> None:
        """At least one answer for each input, and answers that were repeated say the same again."""
        answers = self.answers()
        assert set(answers) == set(self.inputs())
        said: dict[str, ResultMessage] = {}
        for result in self.results():
            first = said.setdefault(result.result_id, result)
            assert (result.label, result.tokens) == (first.label, first.tokens)
            assert abs(result.score - first.score) <= 1e-6

    def assert_in_order(self) -> None:
        """Results of one input partition stand in its order; both topics have as many partitions."""
        last: dict[int, int] = {}
        for result in self.results():
            assert result.source_offset > last.get(result.source_partition, -1)
            last[result.source_partition] = result.source_offset

    def assert_nothing_half_done(self) -> None:
        """What is answered is committed, what is committed is answered, and no transaction is left open."""
        answered: dict[int, int] = dict.fromkeys(range(self.partitions), 0)
        for source in self.visible_answers():
            answered[int(source.split("/")[1])] += 1
        committed = self.committed()
        assert answered == {number: committed.get(number, 0) for number in answered}
        for topic in (self.labels, self.dead):
            assert end_offsets(self.bootstrap, topic) == _high_watermarks(self.bootstrap, topic)


class Load:
    """Reviews that keep coming until it is stopped; see `tests.support.load`."""

    def __init__(self, world: World) -> None:
        texts = world.folder / "load.jsonl"
        texts.write_bytes(b"\n".join(map(review_json, some_reviews(500))))
        self._log = (world.folder / "load.log").open("w+")
        command = [sys.executable, "-m", "tests.support.load", world.bootstrap, world.reviews, str(texts)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log)

    def __enter__(self) -> Load:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        """Ends it once everything sent has been acknowledged; raises if that did not happen."""
        if failed:
            self._process.kill()
        self._process.communicate(timeout=WAIT_SECONDS)
        self._log.seek(0)
        said = self._log.read()
        self._log.close()
        assert failed or self._process.returncode == 0, said


def _high_watermarks(bootstrap: str, topic: str) -> dict[int, int]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        return {tp.partition: offset for tp, offset in consumer.end_offsets(partitions).items()}
    finally:
        consumer.close(autocommit=False)


def started(worker: WorkerProcess) -> bool:
    """Whether it has answered anything yet."""
    return delivered(worker) > 0


def delivered(worker: WorkerProcess) -> float:
    """Results it has made durable so far, by its own account."""
    return total(worker, "inferry_results_total")


def total(worker: WorkerProcess, metric: str) -> float:
    """The sum of a metric's series."""
    return sum(value for name, value in worker.metrics().items() if name.split("{")[0] == metric)


def state(worker: WorkerProcess) -> str:
    """The state its metrics tell."""
    now = [name for name, value in worker.metrics().items() if name.startswith("inferry_state{") and value == 1]
    return now[0].split('"')[1] if now else ""


def held_partitions(worker: WorkerProcess) -> set[int]:
    """Those it has a lag series of."""
    names = [name for name in worker.metrics() if name.startswith("inferry_lag_records{")]
    return {int(name.split('partition="')[1].split('"')[0]) for name in names}


def logged(worker: WorkerProcess, event: str) -> list[dict[str, Any]]:
    """The worker's log lines of one event."""
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def some_reviews(count: int, seed: int = 0) -> list[str]:
    """Reviews of 1 to 60 words that the tiny model knows, with some that it does not."""
    pick = random.Random(seed)
    words = [*GOOD, *BAD, *PLAIN, "zwölf", "映画", "🎬", "<br", "/>It's", "10/10"]
    return [" ".join(pick.choices(words, k=pick.randint(1, 60))) for _ in range(count)]


def assert_scored_as_offline(model: TinyModel, texts: Mapping[str, str], results: Sequence[ResultMessage]) -> None:
    """Label, score, tokens and version of each result, held against the SavedModel run by itself. `texts` by result id."""
    expected = dict(zip(texts, model.score(list(texts.values())), strict=True))
    assert results
    for result in results:
        text, score = texts[result.result_id], expected[result.result_id]
        assert abs(result.score - score) <= 1e-6, text
        assert result.label == model.card.labels[result.score >= model.card.threshold]
        ids = model.ids(text)
        assert result.tokens == min(len(ids), model.card.max_tokens)
        assert result.truncated == (len(ids) > model.card.max_tokens)
        assert (result.model_name, result.model_version) == ("sentiment_classifier", model.version)
