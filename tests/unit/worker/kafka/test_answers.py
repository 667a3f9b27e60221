"""Answers as records: their order, where they go, and what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.codecs import decode_result
from protos.dead_letters import MAX_MESSAGE_BYTES, PARTS, header_bytes, parse
from protos.forms import Form
from worker import errors
from worker.kafka.answers import AnswerWriter, OutgoingLetter, in_order
from worker.records import DeadLetter, Headers, Labelled, Membership, Partition, Reason, Record, Window


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


# --- the records that go out -----------------------------------------------------------------------------------------

KEYS = st.none() | st.binary(max_size=8)
HEADER_LISTS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=5)


def writer(
    *, form: Form = Form.JSON, output: int = 3, dead: int = 2, audit: bool = False, passed: Sequence[str] = ()
) -> AnswerWriter:
    return AnswerWriter(
        output_topic="labels",
        dead_letter_topic="dead",
        partitions={"reviews": 3, "labels": output, "dead": dead},
        form=form,
        group="group",
        worker="here/group.0",
        now_seconds=lambda: 1_700_000_000.5,
        audit=audit,
        pass_headers=passed,
    )


def given_record(
    partition: int = 0, key: bytes | None = b"key", value: bytes | None = b"text", headers: Headers = ()
) -> Record:
    return Record("reviews", partition, 17, 1_600_000_000_000, key, value, headers)


def labelled(record: Record, **more: Any) -> Labelled:
    return Labelled(record, "review 42", "positive", 0.75, "model", 9, 3, False, **more)


def window(record: Record) -> Window:
    return Window([record], {Partition(record.topic, record.partition): record.offset + 1}, Membership(7, "member"))


@pytest.mark.parametrize("form", [Form.JSON, Form.PROTOBUF])
def test_a_result_is_written_in_the_form_asked_for_and_says_so(form: Form) -> None:
    source = given_record(partition=1)
    out = writer(form=form).result(window(source), labelled(source))
    found = decode_result(out.value, out.headers)
    assert (out.topic, out.key) == ("labels", b"key")
    assert dict(out.headers)["content-type"] == form.content_type.encode()
    assert (found.review_id, found.result_id) == ("review 42", "reviews/1/17")
    assert (found.source_topic, found.source_partition, found.source_offset) == ("reviews", 1, 17)
    assert (found.label, found.score, found.model_name, found.model_version) == ("positive", 0.75, "model", 9)
    assert (found.tokens, found.truncated, found.scores) == (3, False, None)


def test_every_labels_score_is_written_where_it_is_given() -> None:
    source = given_record()
    out = writer().result(window(source), labelled(source, labels=("negative", "positive"), scores=(0.25, 0.75)))
    assert decode_result(out.value, out.headers).scores == {"negative": 0.25, "positive": 0.75}


@given(KEYS, st.integers(0, 2), st.integers(1, 7))
def test_a_result_goes_to_its_reviews_partition_or_by_the_key(key: bytes | None, partition: int, output: int) -> None:
    source = given_record(partition, key)
    out = writer(output=output).result(window(source), labelled(source))
    if output == 3:
        assert out.partition == partition
    elif key is None:
        assert out.partition == partition % output
    else:
        assert out.partition is None, "the client's partitioner keeps a key together"


@given(KEYS, st.none() | st.binary(max_size=20), HEADER_LISTS, st.sampled_from(Reason))
def test_a_dead_letter_is_the_record_itself_with_headers_added(
    key: bytes | None, value: bytes | None, headers: Any, reason: Reason
) -> None:
    source = given_record(2, key, value, headers)
    out = writer().dead_letter(window(source), DeadLetter(source, reason, "It makes no sense.", "decode"))
    assert (out.topic, out.partition, out.key, out.cut) == ("dead", 2 % 2, key, ())
    # What has neither key nor value cannot be sent; an empty value is the nearest there is.
    assert out.value == (b"" if key is None and value is None else value)
    kept = [(name, content or b"") for name, content in headers if not name.startswith("__connect.errors.")]
    assert out.headers[: len(kept)] == kept
    told = parse(out.headers)
    assert (told.topic, told.partition, told.offset) == ("reviews", 2, 17)
    assert (told.reason, told.message, told.stage) == (reason.value, "It makes no sense.", "decode")
    assert (told.connector_name, told.task_id) == ("group", "here/group.0")
    assert told.failed_at_ms == 1_700_000_000_500


@pytest.mark.parametrize(
    ("stage", "error"), [("decode", "InvalidReview"), ("predict", "ServingRejected"), ("deliver", "DeliveryFailed")]
)
def test_a_dead_letter_names_the_error_of_its_stage(stage: str, error: str) -> None:
    source = given_record()
    out = writer().dead_letter(window(source), DeadLetter(source, Reason.REJECTED_BY_MODEL, "No.", stage))
    assert parse(out.headers).exception_class_name == f"worker.errors.{error}"
    assert hasattr(errors, error)


def test_a_dead_letter_that_is_cut_says_how_much_it_left_out() -> None:
    source = given_record(value=b"x" * 100, headers=[("trace", b"t"), ("none", None)])  # type: ignore[list-item]
    letter = DeadLetter(source, Reason.TOO_LARGE, "It is too large.")
    out = writer().dead_letter(window(source), letter, cut=("value",))
    told = parse(out.headers)
    assert (out.value, out.key, out.headers[0]) == (b"", b"key", ("trace", b"t"))
    assert told.message == "It is too large. (too large to keep here: its value of 100 bytes)"
    assert {part: (cut.size_bytes, cut.sha256) for part, cut in told.cut.items()} == {
        "value": (100, hashlib.sha256(b"x" * 100).hexdigest())
    }
    out = writer().dead_letter(window(source), letter, cut=PARTS)
    told = parse(out.headers)
    headers = b"\0\0\0\x05trace\0\0\0\x01t\0\0\0\x04none\xff\xff\xff\xff"
    assert (out.value, out.key) == (b"", b"")
    assert not {"trace", "none"} & {name for name, _ in out.headers}
    assert {part: (cut.size_bytes, cut.sha256) for part, cut in told.cut.items()} == {
        "value": (100, hashlib.sha256(b"x" * 100).hexdigest()),
        "headers": (len(headers), hashlib.sha256(headers).hexdigest()),
        "key": (3, hashlib.sha256(b"key").hexdigest()),
    }
    assert (told.topic, told.partition, told.offset, told.reason) == ("reviews", 0, 17, Reason.TOO_LARGE)


SIZES = st.sampled_from([0, 1, 30, 5_000])


@given(SIZES, SIZES, st.lists(SIZES, max_size=4), SIZES)
def test_a_dead_letter_gets_smaller_part_by_part_the_largest_first_until_nothing_of_the_record_is_left(
    key: int, value: int, headers: list[int], detail: int
) -> None:
    source = given_record(0, b"k" * key, b"v" * value, [("h", b"h" * size) for size in headers])
    sizes = {"key": key, "value": value, "headers": len(header_bytes(source.headers))}
    letter = DeadLetter(source, Reason.EMPTY, "d" * detail)
    out: OutgoingLetter | None = writer().dead_letter(window(source), letter)
    written = []
    while out is not None:
        written.append(out)
        out = writer().smaller(window(source), out)
    assert [len(w.cut) for w in written[:-1]] == list(range(len(written) - 1))
    *_, last = written
    assert last.brief
    assert [sizes[part] for part in last.cut] == sorted((size for size in sizes.values() if size), reverse=True)
    assert (last.key, last.value) == (b"", b"")
    assert sum(len(name) + len(content) for name, content in last.headers) < 2_000
    assert (parse(last.headers).topic, parse(last.headers).offset) == ("reviews", 17)


def test_whatever_a_record_says_of_itself_what_is_added_to_it_is_bounded() -> None:
    mine = [
        ("inferry-attempts", b"9" * 10_000),
        ("inferry-cut-key-sha256", b"f" * 10_000),
        ("content-type", b"x" * 10_000),
    ]
    source = given_record(headers=mine)
    out = writer(audit=True).dead_letter(window(source), DeadLetter(source, Reason.EMPTY, "é" * 10_000))
    added = out.headers[1:]
    assert out.headers[0] == mine[2], "names of ours are not carried over, the others are"
    assert sum(len(name) + len(content) for name, content in added) < MAX_MESSAGE_BYTES + 2_000
    assert parse(out.headers).cut == {}


def test_audit_headers_let_a_checker_hold_the_answer_against_its_input() -> None:
    source = given_record(value=b"a good film")
    letter = DeadLetter(source, Reason.EMPTY, "nothing there")
    for out in (
        writer(audit=True).result(window(source), labelled(source)),
        writer(audit=True).dead_letter(window(source), letter),
    ):
        headers = dict(out.headers)
        assert headers["inferry-source"] == b"reviews/0/17"
        assert headers["inferry-input-sha256"] == hashlib.sha256(b"a good film").hexdigest().encode()
        assert headers["inferry-worker"] == b"here/group.0"
        assert headers["inferry-generation"] == b"7"
    assert not any(name.startswith("inferry") for name, _ in writer().result(window(source), labelled(source)).headers)


def test_answers_are_written_one_by_one_in_the_order_given() -> None:
    source = given_record()
    answers = [labelled(source), DeadLetter(source, Reason.EMPTY, "nothing there"), labelled(source)]
    assert [out.topic for out in writer().write(window(source), answers)] == ["labels", "dead", "labels"]


# --- headers of a review in its answer

TRACED = [("traceparent", b"from the producer"), ("tenant", b"7"), ("tenant", b"8"), ("other", b"x"), ("empty", None)]
OURS = [("traceparent", b"from the worker"), ("tracestate", b"a=b")]


def in_context(record: Record) -> Window:
    return msgspec.structs.replace(window(record), contexts={record.result_id: OURS})


def test_a_result_has_the_named_headers_of_its_review_and_no_others() -> None:
    source = given_record(headers=TRACED)
    out = writer(passed=["tenant", "empty", "absent"], audit=True).result(window(source), labelled(source))
    assert out.headers[1:4] == [("tenant", b"7"), ("tenant", b"8"), ("empty", b"")]
    assert {name for name, _ in out.headers[4:]} == {
        "inferry-source",
        "inferry-input-sha256",
        "inferry-worker",
        "inferry-generation",
    }
    assert writer().result(window(source), labelled(source)).headers == Form.JSON.headers


def test_the_headers_of_one_result_are_not_those_of_the_next() -> None:
    source, other = given_record(headers=TRACED), given_record(headers=[("tenant", b"9")])
    writing = writer(passed=["tenant"])
    writing.result(in_context(source), labelled(source))
    assert writing.result(window(other), labelled(other)).headers[1:] == [("tenant", b"9")]


def test_answers_carry_the_context_of_their_review_s_span_in_place_of_its_producer_s() -> None:
    source = given_record(headers=TRACED)
    result = writer(passed=["traceparent", "tenant"]).result(in_context(source), labelled(source))
    assert result.headers[1:] == [("tenant", b"7"), ("tenant", b"8"), *OURS]
    letter = DeadLetter(source, Reason.EMPTY, "nothing there")
    dead = writer().dead_letter(in_context(source), letter)
    assert dead.headers[: len(TRACED) + 1] == [*TRACED[1:4], ("empty", b""), *OURS]
    assert writer().dead_letter(window(source), letter).headers[0] == TRACED[0], "untouched where nothing is traced"


def test_a_dead_letter_that_leaves_its_headers_out_has_no_context_either() -> None:
    source = given_record(headers=TRACED)
    out = writer().dead_letter(in_context(source), DeadLetter(source, Reason.EMPTY, "x"), cut=["headers"])
    assert not {"traceparent", "tracestate"} & {name for name, _ in out.headers}
