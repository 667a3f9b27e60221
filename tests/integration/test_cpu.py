"""CPU for each review, held against a floor that is measured in the same run: a ratio with slack, never a time.

The limits lie at about twice what `make bench` measures on a quiet machine. A round in which a neighbour takes the caches
proves nothing, so the least of a few rounds counts, and there are no more of them than it takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from deploy.local.broker import Broker
from producer.connection import Connection
from producer.dataset import imdb_reviews
from producer.push import push
from protos.codecs import ReviewMessage
from tests.bench.checking import check, read_answers
from tests.bench.running import Place, run_loop, run_worker
from tests.bench.servers import Server, null_model
from tests.conftest import create_topics
from worker.text import compiled
from worker.text.compiled import CompiledEncoder
from worker.text.subwords import SubwordEncoder
from worker.text.vocabulary import Vocabulary

pytestmark = pytest.mark.lasts(40)

ROUNDS = 5
REVIEWS = 8_000
ENCODED = 2_048
WINDOW = 512


@pytest.fixture(scope="module")
def texts() -> Sequence[str]:
    return [entry.review.text for entry in imdb_reviews(REVIEWS)]


@pytest.fixture(scope="module")
def null(model_base_path: Path) -> Iterator[Server]:
    with null_model(model_base_path / "1") as server:
        yield server


def least_ratio(cost: Callable[[], float], floor: Callable[[], float], enough: float) -> float:
    """The least cost by the least floor, over as many rounds as it takes to be `enough`, but for ROUNDS."""
    costs, floors = math.inf, math.inf
    for _ in range(ROUNDS):
        costs, floors = min(costs, cost()), min(floors, floor())
        if costs / floors <= enough:
            break
    return costs / floors


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        (("--kafka-client", "librdkafka"), 3.0),
        (("--kafka-client", "kafka-python"), 6.0),
    ],
)
def test_a_worker_costs_few_times_what_kafka_python_alone_costs(
    arguments: tuple[str, ...],
    limit: float,
    broker: Broker,
    null: Server,
    texts: Sequence[str],
    model_base_path: Path,
    tmp_path: Path,
) -> None:
    if not compiled.available():
        pytest.skip("the extension is not built: there was no C compiler")

    def place() -> Place:
        topics = create_topics(broker.bootstrap)
        reviews = (ReviewMessage(str(n), text) for n, text in enumerate(texts))
        assert push(reviews, Connection.find(broker.bootstrap), topic=topics[0]).failed == 0
        return Place(
            broker.bootstrap, null.grpc_target, "", topics, model_base_path / "1", logs=tmp_path, model_pid=null.pid
        )

    def worker() -> float:
        where = place()
        cpu_us = run_worker("worker", arguments, REVIEWS, where).cpu_us
        check("the worker", read_answers(broker.bootstrap, where.topics[1]), REVIEWS, {})
        return cpu_us

    def floor() -> float:
        return run_loop("tests.bench.loops.floor_kafka_python", REVIEWS, place()).cpu_us

    assert least_ratio(worker, floor, limit) <= limit


@pytest.mark.parametrize(("kind", "limit"), [(CompiledEncoder, 2.0), (SubwordEncoder, 20.0)])
def test_an_encoder_costs_few_times_what_splitting_the_text_costs(
    kind: type[CompiledEncoder] | type[SubwordEncoder], limit: float, texts: Sequence[str], model_base_path: Path
) -> None:
    if kind is CompiledEncoder and not compiled.available():
        pytest.skip("the extension is not built: there was no C compiler")
    vocabulary = Vocabulary.parse((model_base_path / "1" / "assets.extra" / "vocabulary.subwords").read_bytes())
    encoder = kind(vocabulary, max_tokens=4096)
    windows = [texts[start : start + WINDOW] for start in range(0, ENCODED, WINDOW)]

    def cost(work: Callable[[Sequence[str]], object]) -> float:
        started = time.process_time()
        for window in windows:
            work(window)
        return time.process_time() - started

    ratio = least_ratio(
        lambda: cost(encoder.encode_many), lambda: cost(lambda window: [text.split(" ") for text in window]), limit
    )

    assert ratio <= limit
