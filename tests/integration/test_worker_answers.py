"""Every review is answered once, with the model's own score, whatever form it comes in."""

from __future__ import annotations

from collections import defaultdict

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from protos.codecs import ReviewMessage, encode_review
from protos.forms import Form
from tests.integration.conftest import MakeWorld, both_clients
from tests.support.harness import read_committed, review_json
from tests.support.models import TinyModel
from tests.support.worker_world import World, assert_scored_as_offline, some_reviews


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_every_review_has_one_result_with_the_models_own_score(
    world: World, tiny_model: TinyModel, delivery: str
) -> None:
    texts = some_reviews(400)
    world.push(map(review_json, texts), key=lambda n: b"key %d" % (n % 40))
    worker = world.worker(delivery=delivery, window_records=64, batch_rows=16)
    if delivery == "exactly-once":
        world.assert_each_once()
    else:
        world.assert_none_lost()  # what a rebalance interrupts may be answered again
    assert world.dead_letters() == {}
    inputs = world.inputs()
    text_of = {source: _text(record.value) for source, record in inputs.items()}
    assert sorted(text_of.values()) == sorted(texts)
    assert_scored_as_offline(tiny_model, text_of, world.results())
    assert {result.label for result in world.results()} == {"negative", "positive"}
    assert worker.stop() == 0


def _text(value: bytes | None) -> str:
    import json

    return str(json.loads(value or b"")["text"])


def test_all_three_forms_may_be_mixed_in_one_topic(world: World, tiny_model: TinyModel) -> None:
    texts = some_reviews(90)
    written: dict[str, list[bytes]] = defaultdict(list)
    for number, text in enumerate(texts):
        form = ("json", "protobuf", "text")[number % 3]
        review = ReviewMessage(f"review {number}" if form != "text" else "", text, {"country": "FR"})
        written[form].append(encode_review(review, Form(form)))
    for form, values in written.items():
        world.push(values, headers=Form(form).headers)
        world.push(values[:3], headers=Form(form).headers if form == "protobuf" else ())  # both can also be told apart
    world.worker(result_format="protobuf", all_scores=True)
    world.assert_each_once()
    results = world.results()
    assert len(results) == len(texts) + 9
    inputs = world.inputs()
    # A bare text has no id, so its result bears the id of the record.
    named = {f"review {number}": text for number, text in enumerate(texts)}
    bare = {
        source: (record.value or b"").decode() for source, record in inputs.items() if record.value in written["text"]
    }
    assert {result.review_id for result in results} == {*bare} | {
        f"review {number}" for number in range(len(texts)) if number % 3 != 2
    }
    text_of = {result.result_id: named.get(result.review_id) or bare[result.review_id] for result in results}
    assert_scored_as_offline(tiny_model, text_of, results)
    for result in results:
        assert result.scores == pytest.approx({"negative": 1 - result.score, "positive": result.score})


@pytest.mark.parametrize("form", ["json", "protobuf"])
def test_a_result_says_where_its_review_lies_and_bears_its_key(world: World, form: str) -> None:
    world.push(map(review_json, some_reviews(30)), key=lambda n: b"\x00key %d" % n)
    world.worker(result_format=form, audit_headers=True)
    world.assert_each_once()
    inputs = world.inputs()
    keys = {source: record.key for source, record in inputs.items()}
    for record, result in zip(read_committed(world.bootstrap, world.labels), world.results(), strict=True):
        assert result.result_id == f"{result.source_topic}/{result.source_partition}/{result.source_offset}"
        assert result.result_id in inputs
        assert result.review_id == result.result_id
        headers = dict(record.headers)
        assert headers["content-type"] == Form(form).content_type.encode()
        assert headers["inferry-source"] == result.result_id.encode()
        assert record.key == keys[result.result_id]


@pytest.mark.parametrize("output_partitions", [4, 7])
def test_results_of_one_key_keep_the_order_of_their_reviews(make_world: MakeWorld, output_partitions: int) -> None:
    world = make_world(partitions=4, output_partitions=output_partitions)
    texts = some_reviews(1200)
    # Small windows and batches of very different lengths: results come back in any order but the right one.
    world.push(map(review_json, texts), key=lambda n: b"key %d" % (n * n % 61))
    world.worker(window_records=50, batch_rows=7, max_windows=6)
    world.assert_each_once()
    partitions_of_key: dict[bytes | None, set[int]] = defaultdict(set)
    offsets_of_key: dict[bytes | None, list[int]] = defaultdict(list)
    for record, result in zip(read_committed(world.bootstrap, world.labels), world.results(), strict=True):
        partitions_of_key[record.key].add(record.partition)
        offsets_of_key[record.key].append(result.source_offset)
    assert len(offsets_of_key) > 20
    for key, offsets in offsets_of_key.items():
        assert offsets == sorted(offsets), f"the order of {key!r} was lost"
        assert len(partitions_of_key[key]) == 1, f"{key!r} is in several partitions"
    assert len(set().union(*partitions_of_key.values())) == output_partitions


def test_reviews_without_a_key_keep_the_order_of_their_partition(make_world: MakeWorld) -> None:
    world = make_world(partitions=4, output_partitions=3)
    for partition in range(4):
        world.push(map(review_json, some_reviews(60, seed=partition)), partition=partition)
    world.worker(window_records=20, batch_rows=7)
    world.assert_each_once()
    offsets: dict[int, list[int]] = defaultdict(list)
    for result in world.results():
        offsets[result.source_partition].append(result.source_offset)
    assert all(found == list(range(60)) for found in offsets.values())


def test_a_review_that_is_too_long_for_the_model_is_cut_and_says_so(world: World, tiny_model: TinyModel) -> None:
    long = " ".join(some_reviews(400))
    assert len(tiny_model.vocabulary.encode_ids(long)) > tiny_model.card.max_tokens
    world.push([review_json(long), review_json("a good film")])
    world.worker(batch_tokens=1_000)
    world.assert_each_once()
    text_of = {source: _text(record.value) for source, record in world.inputs().items()}
    assert_scored_as_offline(tiny_model, text_of, world.results())
    assert sorted(result.truncated for result in world.results()) == [False, True]


@both_clients
def test_topics_are_created_where_that_is_allowed(make_world: MakeWorld) -> None:
    world = make_world()
    fresh = f"{world.reviews}-anew"
    topics = {"input_topic": fresh, "output_topic": f"{fresh}-labels", "dead_letter_topic": f"{fresh}-dead"}
    worker = world.worker(**topics, create_topics=True, create_partitions=2).wait_ready()
    world.reviews, world.labels, world.dead = topics.values()
    world.push([review_json("a good film")])
    world.assert_each_once()
    assert worker.stop() == 0
    # So that no compressed bomb reaches the worker: brokers see what is in a batch, and refuse what is too large.
    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    told = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, fresh)])
    admin.close()
    assert told["topic"][fresh]["compression.type"]["value"] == "uncompressed"
