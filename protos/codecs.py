"""Reviews and results to bytes and back: JSON (the default), protobuf, and bare text for reviews.

The `content-type` header says which. A review without one is JSON if its first character is `{`, and otherwise text.
Whatever the bytes are, decoding either gives a message or raises CodecError.

The protobuf forms are in `inferry/v1/review.proto` and `result.proto`. The JSON forms:

    {"id": "42", "text": "A fine film.", "attributes": {"country": "FR"}}            # id and attributes are optional

    {"review_id": "42", "result_id": "reviews/0/17", "label": "positive", "score": 0.93,
     "scores": {"negative": 0.07, "positive": 0.93},                                 # where the worker was asked for it
     "model": {"name": "sentiment_classifier", "version": 1700000000}, "tokens": 5, "truncated": false,
     "source": {"topic": "reviews", "partition": 0, "offset": 17},
     "attributes": {"country": "FR"}}                                                # where the worker was asked for it
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from google.protobuf.message import DecodeError as ProtobufDecodeError

from protos.fields import Fields, attributes_at, id_at, text_at
from protos.forms import CodecError, Form, Headers, form_of
from protos.inferry.v1 import result_pb2, review_pb2

__all__ = [
    "CodecError",
    "Fields",
    "Form",
    "ResultMessage",
    "ReviewMessage",
    "decode_result",
    "decode_review",
    "encode_result",
    "encode_review",
]

MAX_ID_BYTES = 1_024
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTES_BYTES = 16 * 1_024
"""Names and values of one review's attributes together, in UTF-8."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin UTF-8 files with one; RFC 8259 lets a reader ignore it
_TOO_LONG_AN_INTEGER = 10**MAX_ID_BYTES


class ReviewMessage(msgspec.Struct, frozen=True, gc=False):
    """A review as its producer wrote it."""

    id: str
    """Empty where the producer gave none."""
    text: str
    attributes: Mapping[str, str] = {}


class ResultMessage(msgspec.Struct, frozen=True, gc=False):
    """A labelled result."""

    review_id: str
    result_id: str
    label: str
    score: float
    model_name: str
    model_version: int
    tokens: int
    truncated: bool
    source_topic: str
    source_partition: int
    source_offset: int
    scores: Mapping[str, float] | None = None
    """Every label's score, where the worker was asked for it."""
    attributes: Mapping[str, str] | None = None
    """Attributes of the review, where the worker was asked to pass them on."""


class _ReviewJson(msgspec.Struct, gc=False, omit_defaults=True):
    id: str | int | None = None
    text: str | None = None
    attributes: dict[str, str] | None = None


class _ModelJson(msgspec.Struct, gc=False):
    name: str
    version: int


class _SourceJson(msgspec.Struct, gc=False):
    topic: str
    partition: int
    offset: int


class _ResultJson(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    review_id: str
    result_id: str
    label: str
    score: float
    scores: Mapping[str, float] | None = None
    model: _ModelJson
    tokens: int
    truncated: bool
    source: _SourceJson
    attributes: Mapping[str, str] | None = None


_decode_any_json = msgspec.json.Decoder().decode
_decode_review_json = msgspec.json.Decoder(_ReviewJson).decode
_decode_result_json = msgspec.json.Decoder(_ResultJson).decode
_encode_json = msgspec.json.Encoder().encode


def decode_review(
    value: bytes | None, headers: Headers = (), *, max_bytes: int, fields: Fields | None = None
) -> ReviewMessage:
    """The review in a record's value of at most `max_bytes` bytes. `fields` says what of a JSON document is the review;
    None: it has the form above.

    Raises CodecError and nothing else."""
    if value is None:
        raise CodecError("no-text", "The record has no value (it is a tombstone), so there is no text to score.")
    if len(value) > max_bytes:
        raise CodecError("too-large", f"The record's value has {len(value):,} bytes; the limit is {max_bytes:,}.")
    form = form_of(headers) if headers else None
    if not value:
        raise CodecError("empty", "The record's value is empty.")
    if form is Form.PROTOBUF:
        review = _review_from_protobuf(value)
    else:
        value = value.removeprefix(_BYTE_ORDER_MARK)
        if form is Form.JSON or (form is None and _looks_like_json(value)):
            review = _review_from_json(value, fields, declared=form is not None)
        else:
            review = ReviewMessage("", _utf8(value))
    if not review.text or review.text.isspace():
        raise CodecError("empty", "The review's text is empty or nothing but white space.")
    return review


def _looks_like_json(value: bytes) -> bool:
    return value.lstrip(b" \t\r\n").startswith(b"{")


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from None


def _not_utf8(error: UnicodeDecodeError) -> CodecError:
    byte = error.object[error.start]
    return CodecError("not-utf8", f"Byte 0x{byte:02x} at {error.start} of the text is not UTF-8; send UTF-8.")


def _review_from_json(value: bytes, fields: Fields | None, *, declared: bool) -> ReviewMessage:
    found = _parsed(value, fields, declared=declared)
    if found.text is None:
        raise CodecError("no-text", "The JSON has no field `text`, or it is null.")
    attributes = _checked_attributes(found.attributes) if found.attributes else {}
    return ReviewMessage(_checked_id(found.id), found.text, attributes)


def _parsed(value: bytes, fields: Fields | None, *, declared: bool) -> _ReviewJson:
    try:
        return _decode_review_json(value) if fields is None else _review_at(_decode_any_json(value), fields)
    except msgspec.ValidationError as error:
        raise CodecError("malformed", f"The JSON is not a review: {error}.") from None
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from None
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as error:
        hint = "" if declared else " For a text that begins with '{', send the header content-type: text/plain."
        raise CodecError("malformed", f"The value is not JSON: {error}.{hint}") from None


def _review_at(document: object, fields: Fields) -> _ReviewJson:
    return _ReviewJson(
        id_at(document, fields.id) if fields.id else None,
        text_at(document, fields.text),
        attributes_at(document, fields.attributes),
    )


def _checked_id(given: str | int | None) -> str:
    if given is None:
        return ""
    if isinstance(given, int):
        if abs(given) >= _TOO_LONG_AN_INTEGER:
            raise CodecError("malformed", f"The review's id has more than {MAX_ID_BYTES:,} digits.")
        return str(given)
    if len(given) * 4 > MAX_ID_BYTES and len(given.encode()) > MAX_ID_BYTES:
        raise CodecError("malformed", f"The review's id is longer than {MAX_ID_BYTES:,} bytes.")
    return given


def _checked_attributes(given: dict[str, str]) -> dict[str, str]:
    if len(given) > MAX_ATTRIBUTES:
        raise CodecError("malformed", f"The review has {len(given):,} attributes; the limit is {MAX_ATTRIBUTES}.")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in given.items())
    if size > MAX_ATTRIBUTES_BYTES:
        raise CodecError("malformed", f"The attributes have {size:,} bytes; the limit is {MAX_ATTRIBUTES_BYTES:,}.")
    return given


def _review_from_protobuf(value: bytes) -> ReviewMessage:
    try:
        found = review_pb2.Review.FromString(value)
    except ProtobufDecodeError as error:
        # protobuf has one exception for everything; only its message tells that a string was the trouble.
        if "utf-8" in str(error).lower():
            raise CodecError("not-utf8", "A string in the protobuf message is not UTF-8.") from None
        raise CodecError("malformed", "The value is not a protobuf message inferry.v1.Review.") from None
    attributes = _checked_attributes(dict(found.attributes)) if found.attributes else {}
    return ReviewMessage(_checked_id(found.id), found.text, attributes)


def encode_review(review: ReviewMessage, form: Form = Form.JSON) -> bytes:
    """The review's bytes. Text carries neither id nor attributes.

    Raises CodecError (not-utf8) for a str that UTF-8 has no bytes for (lone surrogates)."""
    try:
        if form is Form.TEXT:
            return review.text.encode()
        if form is Form.JSON:
            attributes = dict(review.attributes) or None
            return _encode_json(_ReviewJson(review.id or None, review.text, attributes))
        message = review_pb2.Review(id=review.id, text=review.text, attributes=review.attributes)
        return message.SerializeToString(deterministic=True)
    except UnicodeEncodeError as error:
        raise CodecError("not-utf8", f"The review has characters that UTF-8 cannot write: {error.reason}.") from None


def encode_result(result: ResultMessage, form: Form = Form.JSON) -> bytes:
    """The result's bytes, as JSON or protobuf. Raises ValueError for text, which has no room for a result."""
    if form is Form.JSON:
        return _encode_json(
            _ResultJson(
                review_id=result.review_id,
                result_id=result.result_id,
                label=result.label,
                score=result.score,
                scores=result.scores,
                model=_ModelJson(result.model_name, result.model_version),
                tokens=result.tokens,
                truncated=result.truncated,
                source=_SourceJson(result.source_topic, result.source_partition, result.source_offset),
                attributes=result.attributes,
            )
        )
    if form is Form.PROTOBUF:
        return result_pb2.Result(
            review_id=result.review_id,
            result_id=result.result_id,
            label=result.label,
            score=result.score,
            scores=result.scores,
            model=result_pb2.Model(name=result.model_name, version=result.model_version),
            tokens=result.tokens,
            truncated=result.truncated,
            source=result_pb2.Source(
                topic=result.source_topic, partition=result.source_partition, offset=result.source_offset
            ),
            attributes=result.attributes,
        ).SerializeToString(deterministic=True)
    raise ValueError(f"A result cannot be written as {form}.")


def decode_result(value: bytes | None, headers: Headers = ()) -> ResultMessage:
    """The result in a record's value: protobuf where the `content-type` header says so, otherwise JSON.

    Raises CodecError and nothing else."""
    form = form_of(headers)
    if not value:
        raise CodecError("empty", "The record has no value, so there is no result in it.")
    if form is Form.TEXT:
        raise CodecError("unknown-content-type", "A result is JSON or protobuf, never bare text.")
    try:
        found = result_pb2.Result.FromString(value) if form is Form.PROTOBUF else _decode_result_json(value)
    except ProtobufDecodeError:
        raise CodecError("malformed", "The value is not a protobuf message inferry.v1.Result.") from None
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as error:
        raise CodecError("malformed", f"The value is not the JSON of a result: {error}.") from None
    return ResultMessage(
        review_id=found.review_id,
        result_id=found.result_id,
        label=found.label,
        score=found.score,
        scores=dict(found.scores) if found.scores else None,
        model_name=found.model.name,
        model_version=found.model.version,
        tokens=found.tokens,
        truncated=found.truncated,
        source_topic=found.source.topic,
        source_partition=found.source.partition,
        source_offset=found.source.offset,
        attributes=dict(found.attributes) if found.attributes else None,
    )
