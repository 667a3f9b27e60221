"""Records become reviews or InvalidReview, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.codecs import ReviewMessage
from worker.errors import InvalidReview
from worker.pipeline.decoding import decoder
from worker.records import UNREADABLE_HEADERS, Headers, Reason, Record

LIMIT_BYTES = 100
decode = decoder(LIMIT_BYTES)


def record(value: bytes | None, headers: Headers = ()) -> Record:
    return Record("reviews", 2, 5, 0, b"key", value, headers)


def test_a_review_keeps_its_producers_id_and_attributes() -> None:
    review = decode(record(b'{"id": "42", "text": "A fine film.", "attributes": {"country": "FR"}}'))
    assert (review.id, review.text, dict(review.attributes)) == ("42", "A fine film.", {"country": "FR"})


@pytest.mark.parametrize("value", [b"A fine film.", b'{"text": "A fine film."}'])
def test_a_review_without_an_id_gets_that_of_its_record(value: bytes) -> None:
    assert decode(record(value)).id == "reviews/2/5"


def test_a_value_of_exactly_the_limit_is_answered_and_one_byte_more_is_not() -> None:
    assert decode(record(b"x" * LIMIT_BYTES)).text == "x" * LIMIT_BYTES
    with pytest.raises(InvalidReview) as refused:
        decode(record(b"x" * (LIMIT_BYTES + 1)))
    assert refused.value.reason is Reason.TOO_LARGE


CONTENT_TYPES = st.sampled_from([b"application/json", b"application/x-protobuf", b"text/plain"]) | st.binary(
    max_size=20
)
HEADER = st.tuples(st.sampled_from(["content-type", "Content-Type", "other"]), st.none() | CONTENT_TYPES)
BYTES = st.binary(max_size=2 * LIMIT_BYTES) | st.binary(max_size=30).map(b"{".__add__)
JSON_LIKE = st.lists(
    st.sampled_from(["{", "}", "[", '"', "text", ":", ",", "id", "0", "null", "\\u", " "]), max_size=20
)


@given(st.none() | BYTES | JSON_LIKE.map(lambda parts: "".join(parts).encode()), st.lists(HEADER, max_size=3))
def test_whatever_arrives_is_a_review_or_has_a_reason_and_a_sentence(value: bytes | None, headers: Headers) -> None:
    found = review_or_refusal(record(value, headers))
    if isinstance(found, InvalidReview):
        assert isinstance(found.reason, Reason)
        assert found.detail.endswith(".")
        assert found.detail == str(found)
    else:
        assert found.text.strip()
        assert found.id


def review_or_refusal(given: Record) -> ReviewMessage | InvalidReview:
    try:
        return decode(given)
    except InvalidReview as invalid:
        return invalid


def test_a_review_whose_headers_cannot_be_read_is_not_guessed_at() -> None:
    """They may have said that its value is protobuf."""
    with pytest.raises(InvalidReview, match="header") as raised:
        decode(record(b"A fine film.", UNREADABLE_HEADERS))
    assert raised.value.reason is Reason.MALFORMED
