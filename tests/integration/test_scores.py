"""Scores keep their value on the whole way from Kafka to Kafka: they are what Keras' own `predict` says of the same texts.

Keras, in this process, gets the texts encoded by tensorflow_datasets, in batches of its own.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from producer.dataset import imdb_reviews
from protos.codecs import ResultMessage, decode_result
from protos.serving.prediction_pb2 import PredictRequest
from tests.faults.faulty_server import PREDICT, FaultyServer
from tests.integration.conftest import MakeWorld
from tests.support.harness import review_json, wait_for
from tests.support.model_server import ServerHandle, running_model_server
from tests.support.models import TinyModel, full_model
from tests.support.worker_world import WAIT_SECONDS, World
from trainer.model import predict
from trainer.quiet import keras, tfds
from trainer.versions.layout import EXTRA, KERAS_FILE, VOCABULARY_FILE
from worker.text import normaliser

REVIEWS = 5_000
LARGEST_BATCH = 256
TOLERANCE = 1e-6
TRIES = 5
"""How often a wave is sent that the worker did not read as one window."""
ONE_BATCH_BYTES = 1_000_000
"""Room for the largest wave in one of the producer's batches, and less than a broker takes (`max.message.bytes`)."""
pytestmark = [
    pytest.mark.timeout(1_200),  # a model is trained first where there is none
    pytest.mark.together("the real model"),
    pytest.mark.lasts(25),
]


class RecordingServer(FaultyServer):
    """Passes everything on, and keeps how many rows each request for scores held, in `rows`."""

    def __init__(self, target: str) -> None:
        self.rows: list[int] = []
        super().__init__(target)

    def _answer(self, method: str, request: bytes, context: Any) -> bytes:
        asked = PredictRequest.FromString(request) if method == PREDICT else None
        if asked is not None and asked.model_spec.signature_name == "serving_default":
            self.rows.append(asked.inputs["tokens"].tensor_shape.dim[0].size)
        return super()._answer(method, request, context)


class Waves:
    """Sends reviews in waves, each as one batch of the only partition, and reads the results of each before the next."""

    def __init__(self, world: World) -> None:
        self.sent: list[str] = []
        """By offset."""
        self.results: list[ResultMessage] = []
        self._topic = world.reviews
        self._producer = KafkaProducer(
            bootstrap_servers=world.bootstrap, linger_ms=60_000, batch_size=ONE_BATCH_BYTES
        )  # so that nothing goes out before the flush
        self._consumer = KafkaConsumer(bootstrap_servers=world.bootstrap, isolation_level="read_committed")
        labels = TopicPartition(world.labels, 0)
        self._consumer.assign([labels])
        self._consumer.seek_to_beginning(labels)

    def send(self, texts: Sequence[str]) -> None:
        """Returns once all of them are answered."""
        for text in texts:
            self._producer.send(self._topic, review_json(text))
        self._producer.flush()
        self.sent += texts
        wait_for(self._all_answered, WAIT_SECONDS, "the results of a wave", every_seconds=0)

    def _all_answered(self) -> bool:
        for records in self._consumer.poll(1_000).values():
            self.results += [decode_result(record.value, record.headers) for record in records]
        return len(self.results) >= len(self.sent)

    def close(self) -> None:
        self._producer.close()
        self._consumer.close()


@pytest.fixture(scope="module")
def model() -> TinyModel:
    """The real model."""
    return full_model()


@pytest.fixture(scope="module")
def expected(model: TinyModel) -> Mapping[str, float]:
    """Real reviews, no two alike, and the score that Keras gives each: its `predict`, in batches of its own."""
    texts = list(dict.fromkeys(entry.review.text for entry in imdb_reviews()))[:REVIEWS]
    extra = model.path / EXTRA
    encoder = tfds.deprecated.text.SubwordTextEncoder.load_from_file(str(extra / Path(VOCABULARY_FILE).stem))
    normalise = normaliser(model.card.normaliser)
    rows = [np.array(encoder.encode(normalise(text)), np.int32) for text in texts]
    assert max(map(len, rows)) <= model.card.max_tokens, "none of them is cut"
    kept = keras.models.load_model(extra / KERAS_FILE)
    scores = predict(lambda tokens: kept.predict(tokens, verbose=0), rows)
    assert len(scores) == REVIEWS
    assert np.histogram(scores, bins=10, range=(0, 1))[0].min() > REVIEWS / 100, "scores of every size"
    return dict(zip(texts, scores.tolist(), strict=True))


@pytest.fixture(scope="module")
def server(model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    """Serves this one version, whatever is trained meanwhile."""
    base_path = tmp_path_factory.mktemp("models") / "sentiment_classifier"
    shutil.copytree(model.path, base_path / str(model.version))
    with running_model_server(base_path) as running:
        yield running


def assert_scored_by_keras(
    expected: Mapping[str, float], texts: Mapping[str, str], results: Sequence[ResultMessage], model: TinyModel
) -> None:
    """One result for each of `texts` (by result id), with the score that is expected of it."""
    assert sorted(result.result_id for result in results) == sorted(texts)
    assert {result.model_version for result in results} == {model.version}
    off = {result.result_id: abs(result.score - expected[texts[result.result_id]]) for result in results}
    worst = max(off, key=off.__getitem__)
    print(f"{len(results):,} scores, the one farthest from Keras' is off by {off[worst]:.2g}")
    assert off[worst] <= TOLERANCE, texts[worst]


def test_scores_are_keras_own_at_every_batch_size(
    make_world: MakeWorld, server: ServerHandle, model: TinyModel, expected: Mapping[str, float]
) -> None:
    with closing(RecordingServer(server.grpc_target)) as front:
        world = make_world(serving=f"127.0.0.1:{front.port}", partitions=1)
        # Whatever is in a window fits in one batch.
        most = LARGEST_BATCH * model.card.max_tokens
        limits = {"batch_rows": LARGEST_BATCH, "batch_tokens": most, "batch_padding_tokens": most}
        worker = world.worker(**limits).wait_ready()
        mix = random.Random(5)
        reviews = endless(list(expected), mix)
        with closing(Waves(world)) as waves:
            for size in mix.sample(range(1, LARGEST_BATCH + 1), LARGEST_BATCH):
                send_as_one_batch(waves, front, list(itertools.islice(reviews, size)))
        assert {*range(1, LARGEST_BATCH + 1)} <= {*front.rows}
        assert {*waves.sent} == {*expected}
        texts = {f"{world.reviews}/0/{offset}": text for offset, text in enumerate(waves.sent)}
        assert_scored_by_keras(expected, texts, waves.results, model)
        assert worker.stop() == 0


def send_as_one_batch(waves: Waves, front: RecordingServer, texts: Sequence[str]) -> None:
    """Sends them, again if need be, until the model server was asked for exactly them in one request."""
    for _ in range(TRIES):
        before = len(front.rows)
        waves.send(texts)
        if front.rows[before:] == [len(texts)]:
            return
    pytest.fail(
        f"{len(texts)} reviews were sent {TRIES} times and never came as one batch; last: {front.rows[before:]}"
    )


def endless(texts: Sequence[str], mix: random.Random) -> Iterator[str]:
    """All of them, over and over, in another order each time."""
    while True:
        yield from mix.sample(texts, len(texts))


def test_scores_are_keras_own_at_full_speed(
    make_world: MakeWorld, server: ServerHandle, model: TinyModel, expected: Mapping[str, float]
) -> None:
    world = make_world(serving=server.grpc_target)
    mixed = random.Random(6).sample(list(expected), len(expected))
    world.push(map(review_json, mixed), key=lambda index: b"key %d" % index)
    worker = world.worker()
    world.assert_each_once()
    text_of = dict(zip(map(review_json, mixed), mixed, strict=True))
    texts = {source: text_of[record.value or b""] for source, record in world.inputs().items()}
    assert len({source.split("/")[1] for source in texts}) == world.partitions
    assert_scored_by_keras(expected, texts, world.results(), model)
    assert worker.stop() == 0
