"""Answers become the records that go out: which topic and partition, which bytes, which headers. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence

from protos.codecs import ResultMessage, encode_result
from protos.dead_letters import (
    BRIEF_BYTES,
    MAX_MESSAGE_BYTES,
    PARTS,
    Cut,
    DeadLetterInfo,
    header_bytes,
    headers_for,
    without,
)
from protos.forms import Form
from worker.kafka.driver import Outgoing
from worker.records import CONTEXT_HEADERS, DeadLetter, Headers, Labelled, Record, Window


class OutgoingLetter(Outgoing, frozen=True, gc=False, kw_only=True):
    """The record of one dead letter, and what it had to leave out."""

    letter: DeadLetter
    cut: tuple[str, ...] = ()
    """The parts of the record that are left out (see protos.dead_letters.PARTS)."""
    brief: bool = False
    """Whether the texts of ours are shortened as well."""


def in_order(results: Sequence[Labelled], dead_letters: Sequence[DeadLetter]) -> list[Labelled | DeadLetter]:
    """A window's answers in the order of their records, whichever stage they come from."""
    if not dead_letters:
        return list(results)
    return sorted([*results, *dead_letters], key=lambda answer: (answer.record.partition, answer.record.offset))


class AnswerWriter:
    """Writes results and dead letters for one set of topics."""

    def __init__(
        self,
        *,
        output_topic: str,
        dead_letter_topic: str,
        partitions: dict[str, int],
        form: Form,
        group: str,
        worker: str,
        now_seconds: Callable[[], float],
        audit: bool,
        pass_headers: Collection[str] = (),
    ) -> None:
        """`pass_headers` are the names of headers that a result has from its review."""
        self.output_topic = output_topic
        self._dead_letter_topic = dead_letter_topic
        self._partitions = partitions
        self._form = form
        self._group = group
        self._worker = worker
        self._now_seconds = now_seconds
        self._audit = audit
        self._headers = form.headers
        self._pass_headers = frozenset(pass_headers)

    def write(self, window: Window, answers: Sequence[Labelled | DeadLetter]) -> list[Outgoing]:
        """One record for each answer, in the order given."""
        return [
            self.result(window, answer) if isinstance(answer, Labelled) else self.dead_letter(window, answer)
            for answer in answers
        ]

    def result(self, window: Window, labelled: Labelled) -> Outgoing:
        """The record of one result: the review's key, so that results of one key keep the order of their reviews."""
        record = labelled.record
        message = ResultMessage(
            review_id=labelled.review_id,
            result_id=record.result_id,
            label=labelled.label,
            score=labelled.score,
            scores=dict(zip(labelled.labels, labelled.scores, strict=True)) or None,
            model_name=labelled.model_name,
            model_version=labelled.model_version,
            tokens=labelled.tokens,
            truncated=labelled.truncated,
            source_topic=record.topic,
            source_partition=record.partition,
            source_offset=record.offset,
            attributes=labelled.attributes,
        )
        headers = self._headers
        if self._pass_headers and record.headers:
            headers = headers + [header for header in _sendable(record.headers) if header[0] in self._pass_headers]
        if window.contexts:
            headers = _in_context(headers, window, record)
        if self._audit:
            headers = headers + self._audit_headers(window, record)
        return Outgoing(
            self.output_topic,
            self._partition(self.output_topic, record),
            record.key,
            encode_result(message, self._form),
            headers,
        )

    def dead_letter(
        self, window: Window, letter: DeadLetter, *, cut: Collection[str] = (), brief: bool = False
    ) -> OutgoingLetter:
        """The record of one dead letter: key, value and headers as they came (but for the trace's context, where the review
        is traced), and headers that say why. Parts in `cut` are
        left out; the headers tell their size and SHA-256, and where they lie in the source topic. `brief` shortens the
        texts of ours as well: its size then has a bound that nothing in the record can move."""
        record = letter.record
        original = _sendable(record.headers)
        headers = headers_for(
            _in_context(original, window, record) if window.contexts else original,
            self._info(letter, cut),
            max_text_bytes=BRIEF_BYTES if brief else MAX_MESSAGE_BYTES,
        )
        if self._audit:
            headers += self._audit_headers(window, record)
        partition = record.partition % self._partitions[self._dead_letter_topic]
        key = b"" if "key" in cut else record.key
        value = b"" if "value" in cut else record.value
        if value is None and key is None:
            value = b""  # a client may refuse a record with neither key nor value
        return OutgoingLetter(
            self._dead_letter_topic, partition, key, value, headers, letter=letter, cut=tuple(cut), brief=brief
        )

    def smaller(self, window: Window, refused: OutgoingLetter) -> OutgoingLetter | None:
        """The same dead letter without the largest part that it still has; once none is left, with its texts shortened.
        None when that was refused, too: then no dead letter fits, whatever the record."""
        letter = refused.letter
        sizes = {part: size for part, size in _sizes_bytes(letter.record).items() if size and part not in refused.cut}
        if sizes:
            largest = max(sizes, key=sizes.__getitem__)
            return self.dead_letter(window, letter, cut=(*refused.cut, largest))
        return None if refused.brief else self.dead_letter(window, letter, cut=refused.cut, brief=True)

    def _partition(self, topic: str, record: Record) -> int | None:
        """The review's own partition where the topics are alike, which keeps every order there is and saves hashing
        the key (10 µs a record in Python); otherwise by the key, and without one by the review's partition."""
        count = self._partitions[topic]
        if count == self._partitions[record.topic] or record.key is None:
            return record.partition % count
        return None

    def _audit_headers(self, window: Window, record: Record) -> list[tuple[str, bytes]]:
        return [
            ("inferry-source", record.result_id.encode()),
            ("inferry-input-sha256", hashlib.sha256(record.value or b"").hexdigest().encode()),
            ("inferry-worker", self._worker.encode()),
            ("inferry-generation", str(window.membership.generation).encode()),
        ]

    def _info(self, letter: DeadLetter, cut: Collection[str]) -> DeadLetterInfo:
        record = letter.record
        parts = {part: Cut.of(_part(record, part)) for part in cut}
        sizes = ", ".join(f"its {part} of {told.size_bytes} bytes" for part, told in parts.items())
        left_out = f" (too large to keep here: {sizes})" if sizes else ""
        return DeadLetterInfo(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=letter.reason.value,
            message=letter.detail + left_out,
            stage=letter.stage,
            connector_name=self._group,
            task_id=self._worker,
            class_name="worker.pipeline.Pipeline",
            exception_class_name=f"worker.errors.{_ERRORS.get(letter.stage, 'InvalidReview')}",
            failed_at_ms=int(self._now_seconds() * 1000),
            cut=parts,
        )


_ERRORS = {"predict": "ServingRejected", "deliver": "DeliveryFailed"}
"""The error that each stage's dead letters come from; every other stage's come from InvalidReview."""


def _part(record: Record, part: str) -> bytes:
    """A part of the record as the bytes that its digest is of."""
    if part == "headers":
        return header_bytes(record.headers)
    return (record.key if part == "key" else record.value) or b""


def _sizes_bytes(record: Record) -> dict[str, int]:
    """What leaving out each part of the record saves, roughly: headers of ours are not carried over anyway."""
    others = without(record.headers)
    return {part: len(header_bytes(others) if part == "headers" else _part(record, part)) for part in PARTS}


def _in_context(headers: list[tuple[str, bytes]], window: Window, record: Record) -> list[tuple[str, bytes]]:
    """The headers with the context of the record's trace in place of another that they hold."""
    context = window.contexts.get(record.result_id)
    if context is None:
        return headers
    return [*(header for header in headers if header[0] not in CONTEXT_HEADERS), *context]


def _sendable(headers: Headers) -> list[tuple[str, bytes]]:
    """Kafka allows a header without a value, not every client sends one: it becomes an empty value."""
    return [(name, value if value is not None else b"") for name, value in headers]
