"""The demo's figures are what they are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.trial import Accuracy, Trial, percentile
from producer.inputs import Entry, entry
from protos.codecs import ResultMessage, ReviewMessage


def review(name: str, label: str | None = None) -> Entry:
    return entry(ReviewMessage(name, f"text of {name}", {"label": label} if label else {}))


def result(name: str, label: str) -> ResultMessage:
    return ResultMessage(
        review_id=name,
        result_id=f"reviews/0/{name}",
        label=label,
        score=0.7,
        model_name="m",
        model_version=1,
        tokens=3,
        truncated=False,
        source_topic="reviews",
        source_partition=0,
        source_offset=0,
    )


def trial() -> Trial:
    made = Trial([review("a", "positive"), review("b", "negative"), review("c")], {"a": 10.0, "b": 10.5, "c": 11.0})
    made.take(result("a", "positive"), 10.1)
    made.take(result("b", "positive"), 11.0)
    return made


def test_accuracy_counts_the_answered_and_labelled() -> None:
    assert trial().accuracy() == Accuracy(right=1, known=2)
    assert trial().accuracy(lambda one: one.id == "a") == Accuracy(1, 1)
    assert trial().accuracy(lambda _: False).share == 0


def test_a_repeat_and_a_strangers_result_change_nothing() -> None:
    made = trial()
    made.take(result("a", "negative"), 99.0)
    made.take(result("stranger", "negative"), 99.0)
    assert made.accuracy().right == 1
    assert made.latencies_seconds() == pytest.approx([0.1, 0.5])


def test_complete_once_each_is_answered() -> None:
    made = trial()
    assert not made.complete
    made.take(result("c", "positive"), 12.0)
    assert made.complete
    assert made.per_second() == pytest.approx(3 / 2.0)


def test_nothing_answered_is_no_throughput() -> None:
    assert Trial([review("a")], {"a": 1.0}).per_second() == 0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_value_that_enough_do_not_exceed(values: list[float], percent: int) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert found in ordered
    assert sum(value <= found for value in ordered) * 100 >= percent * len(ordered)
    assert sum(value < found for value in ordered) * 100 < percent * len(ordered)
