"""Answers as records: their order."""

from __future__ import annotations

from worker.answers import in_order
from worker.records import DeadLetter, Labelled, Reason, Record


def record(offset: int, partition: int = 0) -> Record:
    return Record("reviews", partition, offset, 0, b"key", b"text")


def result(offset: int, partition: int = 0) -> Labelled:
    return Labelled(record(offset, partition), "", "positive", 0.9, "m", 1, 3, False)


def letter(offset: int, partition: int = 0) -> DeadLetter:
    return DeadLetter(record(offset, partition), Reason.EMPTY, "nothing there")


def test_dead_letters_of_two_stages_go_out_in_the_order_of_their_records() -> None:
    decoded, predicted = [letter(1), letter(7, partition=1)], [letter(0), letter(5)]
    answers = in_order([result(2), result(6, partition=1)], [*decoded, *predicted])
    assert [(a.record.partition, a.record.offset) for a in answers] == [(0, 0), (0, 1), (0, 2), (0, 5), (1, 6), (1, 7)]


def test_results_alone_stay_as_they_are() -> None:
    results = [result(2, partition=1), result(0), result(1)]
    assert in_order(results, []) == results
