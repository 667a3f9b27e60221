"""What can never be answered goes to the dead letters untouched, with the reason; everything else goes on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka.record.default_records import DefaultRecordBatchBuilder

from protos.codecs import CodecError, decode_review
from tests.integration.conftest import MakeWorld, both_clients
from tests.support.harness import review_json, wait_for
from tests.support.model_server import running_model_server
from tests.support.models import TinyModel, tiny_vocabulary, tiny_weights
from tests.support.worker_world import World, assert_scored_as_offline, logged, some_reviews, state
from trainer import model as keras_model
from trainer.card import card_of
from trainer.versions.export import export
from worker.records import Reason, Record

LIMIT_BYTES = 5_000
ALL_MAY_BE_BAD = {"dead_letter_share": 1, "dead_letter_run": 0}
PROTOBUF = (("content-type", b"application/x-protobuf"),)


class Bad(NamedTuple):
    """A record that cannot be answered, and what must be said of it."""

    value: bytes | None
    reason: Reason
    said: str
    headers: tuple[tuple[str, bytes], ...] = ()


BAD = {
    "malformed JSON": Bad(b'{"text": "cut o', Reason.MALFORMED, "is not JSON"),
    "JSON of something else": Bad(b'{"text": 7}', Reason.MALFORMED, "is not a review"),
    "malformed protobuf": Bad(b"\x0a\xff\x01", Reason.MALFORMED, "protobuf", PROTOBUF),
    "not UTF-8": Bad(b"caf\xe9", Reason.NOT_UTF8, "0xe9 at 3"),
    "JSON that is not UTF-8": Bad(b'{"text": "caf\xe9"}', Reason.NOT_UTF8, "not UTF-8"),
    "no text": Bad(b'{"id": "7"}', Reason.NO_TEXT, "no field `text`"),
    "tombstone": Bad(None, Reason.NO_TEXT, "tombstone"),
    "nothing": Bad(b"", Reason.EMPTY, "empty"),
    "white space": Bad(b'{"text": " \\n\\t\xc2\xa0"}', Reason.EMPTY, "white space"),
    "empty protobuf text": Bad(b"\x0a\x01x", Reason.EMPTY, "empty", PROTOBUF),
    "too large": Bad(b"x" * (LIMIT_BYTES + 1), Reason.TOO_LARGE, "5,001 bytes; the limit is 5,000"),
    "unknown content-type": Bad(b"<r/>", Reason.UNKNOWN_CONTENT_TYPE, "text/xml", (("content-type", b"text/xml"),)),
    "unknown charset": Bad(
        b"x", Reason.UNKNOWN_CONTENT_TYPE, "latin-1", (("Content-Type", b"text/plain; charset=latin-1"),)
    ),
}
HEADERS = [("trace", b"\x00\xff"), ("trace", b"twice"), ("empty", b"")]
CONNECT = ("topic", "partition", "offset", "connector.name", "task.id", "stage", "class.name")
CONNECT += ("exception.class.name", "exception.message")


NULL = b"stands for no value at all"


@pytest.fixture
def null_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the producer write headers without a value, which Kafka allows and its `send` refuses: those that are NULL."""
    append = DefaultRecordBatchBuilder.append

    def append_with_nulls(self: Any, offset: int, timestamp: int, key: Any, value: Any, headers: Any) -> Any:
        return append(
            self,
            offset,
            timestamp,
            key,
            value,
            [(name, None if content == NULL else content) for name, content in headers],
        )

    monkeypatch.setattr(DefaultRecordBatchBuilder, "append", append_with_nulls)


@both_clients
def test_each_kind_of_bad_record_is_a_dead_letter_with_its_reason_between_reviews_that_are_answered(
    world: World, tiny_model: TinyModel
) -> None:
    good = iter(some_reviews(len(BAD) + 1))
    for kind, bad in BAD.items():
        world.push([review_json(next(good))], partition=0)
        world.push([bad.value], partition=0, key=lambda _, kind=kind: kind.encode(), headers=[*HEADERS, *bad.headers])
    world.push([review_json(next(good))], partition=0)
    worker = world.worker(max_review_bytes=LIMIT_BYTES, **ALL_MAY_BE_BAD)
    world.assert_each_once()
    inputs, letters = world.inputs(), world.dead_letters()
    assert {(record.key or b"").decode() for record, _ in letters.values()} == set(BAD)
    for source, (record, told) in letters.items():
        bad, given = BAD[(record.key or b"").decode()], inputs[source]
        assert (record.key, record.value) == (given.key, given.value)
        assert list(record.headers[: len(given.headers)]) == list(given.headers) == [*HEADERS, *bad.headers]
        assert (told.reason, told.stage, told.connector_name) == (bad.reason, "decode", world.group)
        assert bad.said in told.message
        assert told.attempts == 0
        names = [name for name, _ in record.headers]
        assert [names.count(f"__connect.errors.{name}") for name in CONNECT] == [1] * len(CONNECT)
    text_of = {
        source: decode_review(inputs[source].value, max_bytes=9**9).text for source in set(inputs) - set(letters)
    }
    assert len(text_of) == len(BAD) + 1
    assert_scored_as_offline(tiny_model, text_of, world.results())
    assert state(worker) == "running"
    counted = {reason.value: 0 for reason in Reason}
    for bad in BAD.values():
        counted[bad.reason] += 1
    metrics = worker.metrics()
    assert {reason: metrics[f'inferry_dead_letters_total{{reason="{reason}"}}'] for reason in counted} == counted
    assert logged(worker, "dead letters")
    assert worker.stop() == 0


def test_a_header_without_a_value_stops_nothing(world: World, null_headers: None) -> None:
    for name in ("nothing", "content-type"):
        world.push([b"a good film", b"\xff"], headers=[(name, NULL), *HEADERS], partition=0)
    inputs = world.inputs()
    assert all(record.headers[0][1] is None for record in inputs.values()), "the test must send what it means to"
    world.worker(**ALL_MAY_BE_BAD)
    world.assert_each_once()
    assert sorted(result.source_offset for result in world.results()) == [0, 2]
    for source, (record, told) in world.dead_letters().items():
        assert told.reason == Reason.NOT_UTF8
        name = inputs[source].headers[0][0]
        assert list(record.headers[: 1 + len(HEADERS)]) == [
            (name, b""),
            *HEADERS,
        ]  # the client sends none without value


def refusal(record: Record) -> CodecError | None:
    """Why it is no review, if it is none."""
    try:
        decode_review(record.value, record.headers, max_bytes=10_000)
    except CodecError as error:
        return error
    return None


def test_random_bytes_are_answered_as_what_they_are(world: World) -> None:
    pick = random.Random(20)
    values = [pick.randbytes(pick.randint(0, 40)) for _ in range(300)]
    values += [b"{" + pick.randbytes(pick.randint(0, 40)) for _ in range(100)]
    values += [bytes(pick.choices(b'{}[]":,\\utextid0123456789 ', k=pick.randint(1, 40))) for _ in range(300)]
    kinds = [(), PROTOBUF, (("content-type", pick.randbytes(20)),)]
    for headers in kinds:
        world.push(values, headers=headers, key=lambda n: b"%d" % n)
    worker = world.worker(**ALL_MAY_BE_BAD)
    world.assert_each_once()
    inputs, letters = world.inputs(), world.dead_letters()
    expected = {source: error for source, record in inputs.items() if (error := refusal(record))}
    assert set(letters) == set(expected)
    for source, (letter, told) in letters.items():
        assert (told.reason, told.message) == (expected[source].reason, expected[source].detail)
        assert (letter.key, letter.value) == (inputs[source].key, inputs[source].value)
    assert 0 < len(letters) < len(inputs)
    assert worker.stop() == 0


@pytest.fixture
def narrow_model(tmp_path: Path) -> TinyModel:
    """A model whose table ends where the bytes of unknown characters begin: it refuses every text that has one."""
    vocabulary = tiny_vocabulary()
    rows = vocabulary.size - 256
    embedding, *others = tiny_weights(vocabulary)
    model = keras_model.build(rows)
    model.set_weights([embedding[:rows], *others])
    card = card_of(vocabulary, threshold=0.6, max_tokens=4096)
    return TinyModel(
        export(model, vocabulary, tmp_path / "sentiment_classifier", card=card, version=1), vocabulary, 1, card
    )


def test_what_the_model_refuses_is_the_dead_letter_of_that_review_alone(
    make_world: MakeWorld, narrow_model: TinyModel
) -> None:
    texts = [f"a good film {'映画' if number % 29 == 5 else ''}" for number in range(120)]
    with running_model_server(narrow_model.path.parent) as server:
        world = make_world(serving=server.grpc_target)
        world.push(map(review_json, texts), key=lambda n: b"%d" % n, partition=0)
        worker = world.worker(batch_rows=16)
        world.assert_each_once()
        letters = world.dead_letters()
        assert {letter.key for letter, _ in letters.values()} == {b"%d" % n for n in range(120) if n % 29 == 5}
        for letter, told in letters.values():
            assert (told.reason, told.stage) == (Reason.REJECTED_BY_MODEL, "predict")
            assert "INVALID_ARGUMENT" in told.message
            assert letter.value == review_json(texts[int(letter.key or b"")])
        text_of = {source: texts[int(record.key or b"")] for source, record in world.inputs().items()}
        assert_scored_as_offline(
            narrow_model, {source: text for source, text in text_of.items() if source not in letters}, world.results()
        )
        assert worker.stop() == 0


def test_dead_letters_without_end_stop_the_worker_before_it_empties_the_topic(world: World) -> None:
    world.push([b"\xff"] * 400)
    worker = world.worker(window_records=50, dead_letter_run=120)
    assert worker.wait() == 4
    assert "records were all dead letters (the limit is 120 in a row)" in worker.log
    letters = world.dead_letters()
    assert len(letters) <= 120
    wait_for(lambda: sum(world.committed().values()) == len(letters), 10, "the commit of what was published")
