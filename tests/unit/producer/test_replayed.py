from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer.dead_letters.replayed import MAX_METADATA_BYTES, Replayed

STRETCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])))


@given(st.integers(0, 20), STRETCHES)
def test_it_is_the_set_of_offsets_added(floor: int, stretches: list[tuple[int, int]]) -> None:
    replayed, expected = Replayed(floor), set(range(floor))
    for first, end in stretches:
        replayed.add(first, end)
        expected |= set(range(first, end))
    assert {offset for offset in range(100) if offset in replayed} == expected
    assert replayed.floor == min(set(range(101)) - expected)


@given(st.integers(0, 20), STRETCHES)
def test_offset_and_metadata_bring_it_back(floor: int, stretches: list[tuple[int, int]]) -> None:
    replayed = Replayed(floor)
    for first, end in stretches:
        replayed.add(first, end)
    again = Replayed(replayed.floor, replayed.metadata)
    assert [offset in again for offset in range(100)] == [offset in replayed for offset in range(100)]


@given(st.text())
def test_metadata_of_others_counts_as_none(text: str) -> None:
    assert Replayed(7, "by " + text).floor == 7


def test_it_says_when_kafka_would_take_no_more() -> None:
    replayed = Replayed(0)
    offset = 10**12
    while not replayed.full:
        replayed.add(offset, offset + 1)
        offset += 2
        assert len(replayed.metadata) <= MAX_METADATA_BYTES
    kept = Replayed(0, replayed.metadata)
    assert all(other in kept for other in range(10**12, offset, 2))
    assert len(replayed.metadata) > MAX_METADATA_BYTES // 2


def test_too_many_stretches_are_cut_between_two() -> None:
    replayed = Replayed(0)
    for offset in range(1, 4001, 2):
        replayed.add(offset, offset + 1)
    assert len(replayed.metadata) <= MAX_METADATA_BYTES
    again = Replayed(0, replayed.metadata)
    remembered = [offset for offset in range(4001) if offset in again]
    assert remembered == list(range(1, 2 * len(remembered), 2))
    assert len(remembered) > 100
