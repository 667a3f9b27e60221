"""Reviews in JSON of somebody else's shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.codecs import CodecError, Fields, Form, ReviewMessage, decode_review, encode_review
from protos.fields import Path, find, parse_path

FIELDS = Fields(
    parse_path("review.body"), parse_path("/meta/review.id"), (parse_path("shop.name"), parse_path("tags.0"))
)
DOCUMENT: dict[str, Any] = {
    "review": {"body": "A fine film."},
    "meta": {"review.id": 42},
    "shop": {"name": "Rex", "till": 3},
    "tags": [{"a": [1, None]}, "b"],
}


def decode(document: Any, fields: Fields | None = FIELDS) -> ReviewMessage:
    return decode_review(json.dumps(document).encode(), Form.JSON.headers, max_bytes=1 << 20, fields=fields)


def refused(document: Any) -> CodecError:
    with pytest.raises(CodecError) as error:
        decode(document)
    return error.value


def fate(document: Any, fields: Fields) -> str:
    try:
        decode(document, fields)
    except CodecError as error:
        return error.reason
    return ""


def test_the_fields_that_are_named_are_the_review() -> None:
    wanted = ReviewMessage("42", "A fine film.", {"shop.name": "Rex", "tags.0": '{"a":[1,null]}'})
    assert decode(DOCUMENT) == wanted
    found = decode_review(json.dumps(DOCUMENT).encode(), max_bytes=1 << 20, fields=FIELDS)
    assert found == wanted, "without a content-type, too"


def test_id_and_attributes_may_be_absent() -> None:
    assert decode({"review": {"body": "x"}}) == ReviewMessage("", "x", {})
    assert decode({**DOCUMENT, "meta": {"review.id": None}}).id == ""
    assert decode(DOCUMENT, Fields(parse_path("review.body"))) == ReviewMessage("", "A fine film.", {})


@pytest.mark.parametrize(
    ("document", "reason", "said"),
    [
        ({}, "no-text", "no field `review.body`"),
        ({"review": {"body": None}}, "no-text", "no field `review.body`"),
        ({"review": "body"}, "no-text", "no field `review.body`"),
        ({"review": {"body": 7}}, "malformed", "`review.body` is a number"),
        ({"review": {"body": ["x"]}}, "malformed", "`review.body` is a list"),
        ({"review": {"body": " "}}, "empty", "white space"),
        ({**DOCUMENT, "meta": {"review.id": True}}, "malformed", "`/meta/review.id` is true or false"),
        ({**DOCUMENT, "meta": {"review.id": {}}}, "malformed", "`/meta/review.id` is an object"),
        ({**DOCUMENT, "shop": {"name": "x" * 20_000}}, "malformed", "attributes have 20,"),
        ([DOCUMENT], "no-text", "no field `review.body`"),
    ],
)
def test_a_dead_letter_names_the_path(document: Any, reason: str, said: str) -> None:
    error = refused(document)
    assert (error.reason, said in error.detail) == (reason, True), error.detail
    assert "fine film" not in error.detail


def test_other_forms_are_read_as_ever() -> None:
    review = ReviewMessage("7", "A fine film.")
    value = encode_review(review, Form.PROTOBUF)
    assert decode_review(value, Form.PROTOBUF.headers, max_bytes=100, fields=FIELDS) == review
    assert decode_review(b"text", max_bytes=100, fields=FIELDS).text == "text"


def test_structured_cloud_events_are_read_by_settings_alone() -> None:
    """https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/kafka-protocol-binding.md, section 3.3"""
    event = {
        "specversion": "1.0",
        "type": "com.example.review",
        "source": "/shops/7",
        "id": "A234-1234",
        "datacontenttype": "application/json",
        "data": {"text": "A fine film."},
    }
    headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    fields = Fields(parse_path("data.text"), parse_path("id"), (parse_path("source"),))
    found = decode_review(json.dumps(event).encode(), headers, max_bytes=1_000, fields=fields)
    assert found == ReviewMessage("A234-1234", "A fine film.", {"source": "/shops/7"})


@pytest.mark.parametrize(
    ("written", "found"),
    [("a", 1), ("/a", 1), ("b.c", 2), ("/b/c", 2), ("/x.y", 3), ("x.y", None), ("/s~1t~0", 4), ("/l/1", 6), ("l.1", 6)]
    + [(path, None) for path in ("l.2", "l.-1", "l.01", "l.x", "l.\u0661", "a.b", "/", "b.c.d")],
)
def test_paths(written: str, found: int | None) -> None:
    document = {"a": 1, "b": {"c": 2}, "x.y": 3, "s/t~": 4, "l": [5, 6]}
    assert find(document, parse_path(written)) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


@given(JSON, st.lists(st.sampled_from(["a", "b", "0"]), min_size=1, max_size=3))
def test_any_document_is_a_review_or_a_dead_letter(document: Any, parts: list[str]) -> None:
    path = Path(".".join(parts), tuple(parts))
    text = find(document, path)
    readable = isinstance(text, str) and text.strip() and len(text.encode()) <= 1_024  # the same field is the id
    assert (fate(document, Fields(path, path, (path,))) == "") is bool(readable)
