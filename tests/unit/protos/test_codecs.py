"""Codecs: round trips, every kind of bad input, and dead letters' headers."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import dead_letters
from protos.codecs import (
    MAX_ATTRIBUTES,
    MAX_ATTRIBUTES_BYTES,
    MAX_ID_BYTES,
    CodecError,
    Form,
    ResultMessage,
    ReviewMessage,
    decode_result,
    decode_review,
    encode_result,
    encode_review,
)
from protos.dead_letters import DeadLetterInfo
from worker.records import Reason

REASONS = {reason.value for reason in Reason}
JSON = Form.JSON.headers
PROTOBUF = Form.PROTOBUF.headers
TEXT = Form.TEXT.headers

utf8 = st.text(st.characters(exclude_categories=["Cs"]))
texts = utf8.filter(lambda text: bool(text.strip()) and not text.startswith("\ufeff"))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
reviews = st.builds(ReviewMessage, id=names, text=texts, attributes=st.dictionaries(names, names, max_size=5))
scores = st.floats(min_value=0, max_value=1)
results = st.builds(
    ResultMessage,
    review_id=utf8,
    result_id=utf8,
    label=names,
    score=scores,
    model_name=names,
    model_version=st.integers(0, 2**63 - 1),
    tokens=st.integers(0, 2**31 - 1),
    truncated=st.booleans(),
    source_topic=names,
    source_partition=st.integers(0, 2**31 - 1),
    source_offset=st.integers(0, 2**63 - 1),
    scores=st.none() | st.dictionaries(names, scores, min_size=1, max_size=4),
    attributes=st.none() | st.dictionaries(names, names, min_size=1, max_size=4),
)


def decode(value: bytes | None, headers: Any = (), max_bytes: int = 1 << 20) -> ReviewMessage:
    return decode_review(value, headers, max_bytes=max_bytes)


def refused(value: bytes | None, headers: Any = (), max_bytes: int = 1 << 20) -> CodecError:
    with pytest.raises(CodecError) as error:
        decode(value, headers, max_bytes)
    assert error.value.reason in REASONS
    assert error.value.detail.endswith(".")
    return error.value


def fate(value: bytes, headers: Any) -> str:
    """What becomes of a record: a review with text, or one of the reasons. Anything else raises."""
    try:
        review = decode(value, headers)
    except CodecError as error:
        return error.reason
    return "review" if review.text.strip() else "a review without text"


FATES = {"review", *REASONS}

# --- round trips


@given(reviews, st.sampled_from([Form.JSON, Form.PROTOBUF]))
def test_a_review_survives_the_round_trip(review: ReviewMessage, form: Form) -> None:
    assert decode(encode_review(review, form), form.headers) == review


@given(texts)
def test_bare_text_survives_the_round_trip(text: str) -> None:
    value = encode_review(ReviewMessage("lost", text), Form.TEXT)

    assert decode(value, TEXT) == ReviewMessage("", text)


@given(reviews)
def test_json_needs_no_header(review: ReviewMessage) -> None:
    assert decode(b" \n" + encode_review(review)) == review


@given(results, st.sampled_from([Form.JSON, Form.PROTOBUF]))
def test_a_result_survives_the_round_trip(result: ResultMessage, form: Form) -> None:
    assert decode_result(encode_result(result, form), form.headers) == result


def test_the_json_of_a_result_is_as_documented() -> None:
    result = ResultMessage("42", "reviews/0/17", "positive", 0.75, "m", 3, 5, False, "reviews", 0, 17)

    assert json.loads(encode_result(result)) == {
        "review_id": "42",
        "result_id": "reviews/0/17",
        "label": "positive",
        "score": 0.75,
        "model": {"name": "m", "version": 3},
        "tokens": 5,
        "truncated": False,
        "source": {"topic": "reviews", "partition": 0, "offset": 17},
    }
    passing_on = msgspec.structs.replace(result, attributes={"country": "FR"})
    assert json.loads(encode_result(passing_on))["attributes"] == {"country": "FR"}


def test_a_result_has_no_form_as_text() -> None:
    result = ResultMessage("42", "reviews/0/17", "positive", 0.75, "m", 3, 5, False, "reviews", 0, 17)
    with pytest.raises(ValueError, match="cannot be written as text"):
        encode_result(result, Form.TEXT)


def test_the_json_of_a_review_leaves_out_what_it_does_not_have() -> None:
    assert encode_review(ReviewMessage("", "Fine.")) == b'{"text":"Fine."}'


@pytest.mark.parametrize("form", list(Form))
def test_a_lone_surrogate_cannot_be_encoded(form: Form) -> None:
    with pytest.raises(CodecError) as error:
        encode_review(ReviewMessage("", "\ud800"), form)
    assert error.value.reason == "not-utf8"


# --- what is accepted


def test_an_integer_id_becomes_its_decimal_string() -> None:
    assert decode(b'{"id": 42, "text": "x"}').id == "42"
    assert decode(b'{"id": 0, "text": "x"}').id == "0"
    assert decode(b'{"id": -7, "text": "x"}').id == "-7"
    assert decode(b'{"id": 123456789012345678901234567890, "text": "x"}').id == "123456789012345678901234567890"


@pytest.mark.parametrize("value", [b'{"text": "x"}', b'{"id": null, "text": "x", "attributes": null}'])
def test_id_and_attributes_are_optional(value: bytes) -> None:
    assert decode(value) == ReviewMessage("", "x", {})


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b' application/json ;charset="UTF-8"',
    ],
)
@pytest.mark.parametrize("name", ["content-type", "Content-Type"])
def test_content_types_are_read_with_any_case_and_parameters(name: str, content_type: bytes) -> None:
    assert decode(b'{"text": "x"}', [("other", b"1"), (name, content_type)]) == ReviewMessage("", "x", {})


def test_the_last_content_type_counts() -> None:
    assert decode(b'{"text": "x"}', [*JSON, *TEXT]).text == '{"text": "x"}'
    assert decode(b'{"text": "x"}', [*TEXT, *JSON]).text == "x"


def test_a_content_type_without_a_value_is_none() -> None:
    assert decode(b'{"text": "x"}', [("content-type", None)]).text == "x"


def test_without_a_header_only_a_brace_makes_it_json() -> None:
    assert decode(b"[1, 2] is what I give it").text == "[1, 2] is what I give it"
    assert decode(b'\t {"text": "x"}').text == "x"


@pytest.mark.parametrize("headers", [(), JSON])
def test_a_byte_order_mark_is_skipped(headers: Any) -> None:
    assert decode(b'\xef\xbb\xbf{"text": "x"}', headers).text == "x"
    assert decode(b"\xef\xbb\xbfFine.", TEXT).text == "Fine."


def test_of_a_repeated_json_key_the_last_counts_and_unknown_keys_are_ignored() -> None:
    assert decode(b'{"text": "a", "more": [1e999, {}], "text": "b"}').text == "b"


def test_a_nul_is_a_character() -> None:
    assert decode(b'{"text": "a\\u0000b"}').text == "a\0b"
    assert decode(b"a\0b").text == "a\0b"


# --- what is refused, and why


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (None, (), "no-text"),
        (None, JSON, "no-text"),
        (b"{}", (), "no-text"),
        (b'{"id": "7"}', JSON, "no-text"),
        (b'{"text": null}', (), "no-text"),
        (b"", (), "empty"),
        (b"", JSON, "empty"),
        (b"", PROTOBUF, "empty"),
        (b" \n\t", (), "empty"),
        (b"\xef\xbb\xbf", (), "empty"),
        ("\u00a0\u2003".encode(), TEXT, "empty"),
        (b'{"text": ""}', (), "empty"),
        (b'{"text": "  \\n"}', (), "empty"),
        (b"\x0a\x01x", PROTOBUF, "empty"),
        (b"caf\xe9", (), "not-utf8"),
        (b"\xff\xfeF\0i\0", TEXT, "not-utf8"),
        (b'{"text": "caf\xe9"}', JSON, "not-utf8"),
        (b'{"text": "\xed\xa0\x80"}', JSON, "not-utf8"),
        (b"\x12\x02\xff\xff", PROTOBUF, "not-utf8"),
        (b"{not json", (), "malformed"),
        (b'{"text": "x"} y', (), "malformed"),
        (b'{"text": 5}', (), "malformed"),
        (b'{"text": "\\ud800"}', JSON, "malformed"),
        (b'{"text": "\\ud800x"}', JSON, "malformed"),
        (b'{"id": 1.5, "text": "x"}', JSON, "malformed"),
        (b'{"id": true, "text": "x"}', JSON, "malformed"),
        (b'{"id": 1e400, "text": "x"}', JSON, "malformed"),
        (b'{"attributes": {"a": 1}, "text": "x"}', JSON, "malformed"),
        (b'["x"]', JSON, "malformed"),
        (b"Just text.", JSON, "malformed"),
        (b'{"x":' + b"[" * 200_000, (), "malformed"),
        (b'{"x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001, (), "malformed"),
        (b"\xff" * 10, PROTOBUF, "malformed"),
        (b"\x0b" * 5_000, PROTOBUF, "malformed"),
        (b"x", [("content-type", b"image/png")], "unknown-content-type"),
        (b"x", [("content-type", b"")], "unknown-content-type"),
        (b"x", [("content-type", b"\xff\x00")], "unknown-content-type"),
        (b"x", [("content-type", b"text/plain; charset=latin-1")], "unknown-content-type"),
        (b"x", [("content-type", b"text/plain;" + b" " * 100_000)], "unknown-content-type"),
    ],
)
def test_each_kind_of_bad_record_has_its_reason(value: bytes | None, headers: Any, reason: str) -> None:
    assert refused(value, headers).reason == reason


def test_the_limit_is_on_the_value_and_inclusive() -> None:
    assert decode(b"12345", max_bytes=5).text == "12345"
    error = refused(b"123456", max_bytes=5)
    assert error.reason == "too-large"
    assert "6 bytes; the limit is 5" in error.detail


def test_text_that_looks_like_json_is_told_how_to_be_text() -> None:
    assert "content-type: text/plain" in refused(b"{sic} a fine film").detail
    assert "content-type: text/plain" not in refused(b"{sic} a fine film", JSON).detail


@pytest.mark.parametrize(
    "review",
    [
        {"id": "i" * (MAX_ID_BYTES + 1)},
        {"id": "é" * (MAX_ID_BYTES // 2 + 1)},
        {"attributes": {str(i): "" for i in range(MAX_ATTRIBUTES + 1)}},
        {"attributes": {"a": "v" * MAX_ATTRIBUTES_BYTES}},
    ],
)
def test_ids_and_attributes_are_bounded(review: dict[str, Any]) -> None:
    as_json = json.dumps({"text": "x", **review}).encode()
    as_protobuf = encode_review(ReviewMessage(review.get("id", ""), "x", review.get("attributes", {})), Form.PROTOBUF)

    assert refused(as_json).reason == "malformed"
    assert refused(as_protobuf, PROTOBUF).reason == "malformed"


@pytest.mark.parametrize("digits", [MAX_ID_BYTES + 1, 4_299, 4_301, 100_000])
def test_an_integer_id_of_any_length_never_crashes(digits: int) -> None:
    assert refused(b'{"text": "x", "id": ' + b"9" * digits + b"}").reason == "malformed"


@given(st.binary(), st.sampled_from([(), JSON, PROTOBUF, TEXT]))
def test_random_bytes_give_a_review_or_a_codec_error(value: bytes, headers: Any) -> None:
    assert fate(value, headers) in FATES


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_gives_a_review_or_a_codec_error(value: Any) -> None:
    for document in (value, {"text": value}, {"text": "x", "id": value}, {"text": "x", "attributes": value}):
        assert fate(json.dumps(document).encode(), JSON) in FATES


def test_twenty_thousand_damaged_records_give_a_review_or_a_codec_error() -> None:
    chance = random.Random(20_000)
    whole = [
        encode_review(ReviewMessage("id-1", "A film, a plan, a canal: “Panama”.", {"country": "FR"}), form)
        for form in Form
    ]
    for _ in range(20_000):
        value = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 4)):
            value[chance.randrange(len(value))] = chance.randrange(256)
        cut = bytes(value[: chance.randint(0, len(value))])
        assert fate(cut, chance.choice([(), JSON, PROTOBUF, TEXT])) in FATES


@given(st.binary(), st.sampled_from([(), JSON, PROTOBUF, TEXT]))
def test_random_bytes_are_a_result_or_a_codec_error(value: bytes, headers: Any) -> None:
    try:
        reason = decode_result(value, headers) and "malformed"
    except CodecError as error:
        reason = error.reason
    assert reason in REASONS


# --- dead letters

INFO = DeadLetterInfo(
    topic="reviews",
    partition=2,
    offset=17,
    reason="not-utf8",
    message="Byte 0xe9 at 3 of the text is not UTF-8; send UTF-8.",
    stage="decode",
    connector_name="inferry-worker",
    task_id="host-1",
    class_name="worker.pipeline.preparing",
    exception_class_name="worker.errors.InvalidReview",
    failed_at_ms=1_700_000_000_000,
)
header_lists = st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=10)), max_size=5)


@given(header_lists)
def test_the_original_headers_stand_first_byte_for_byte(original: list[tuple[str, bytes]]) -> None:
    headers = dead_letters.headers_for(original, INFO)

    assert headers[: len(original)] == original
    assert dead_letters.parse(headers) == INFO


def test_the_names_are_those_of_kafka_connect() -> None:
    names = [name for name, _ in dead_letters.headers_for([], DeadLetterInfo(stacktrace="at line 1"))]

    assert names == [
        "__connect.errors.topic",
        "__connect.errors.partition",
        "__connect.errors.offset",
        "__connect.errors.connector.name",
        "__connect.errors.task.id",
        "__connect.errors.stage",
        "__connect.errors.class.name",
        "__connect.errors.exception.class.name",
        "__connect.errors.exception.message",
        "__connect.errors.exception.stacktrace",
        "inferry-reason",
        "inferry-attempts",
        "inferry-failed-at-ms",
    ]


def test_a_replayed_record_that_fails_again_has_its_headers_once_and_its_attempts_counted() -> None:
    headers: list[tuple[str, bytes]] = [("trace", b"\xff"), ("trace", b"2")]
    for replays in range(3):
        headers = dead_letters.headers_for(headers, INFO)
        assert dead_letters.parse(headers).attempts == replays
        assert len({name for name, _ in headers}) == len(headers) - 1  # only "trace" stands twice
        headers = dead_letters.replay_headers(headers)
        assert headers == [("trace", b"\xff"), ("trace", b"2"), ("inferry-attempts", str(replays + 1).encode())]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([dead_letters.ATTEMPTS, dead_letters.OFFSET, dead_letters.STAGE]), st.none() | st.binary()
        )
    )
)
def test_parsing_never_raises(headers: Any) -> None:
    assert dead_letters.parse(headers).attempts >= 0


@pytest.mark.parametrize("number", [b"1_0", b" 1", b"9" * 5_000, b"-", b"0x1", "\u0663".encode()])
def test_a_number_that_is_none_is_the_default(number: bytes) -> None:
    assert dead_letters.parse([(dead_letters.OFFSET, number)]).offset == -1


def test_a_long_message_is_cut_between_characters() -> None:
    headers = dict(dead_letters.headers_for([], DeadLetterInfo(message="x" + "é" * 10_000)))
    message = headers[dead_letters.EXCEPTION_MESSAGE]

    assert dead_letters.MAX_MESSAGE_BYTES - 1 <= len(message) <= dead_letters.MAX_MESSAGE_BYTES
    assert message.decode() == "x" + "é" * ((len(message) - 1) // 2)
