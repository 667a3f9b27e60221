"""Whether every record was answered once, in order and rightly: judged by the topics alone, after a run.

The worker is asked nothing. What came in is read from the input topic, what came out from the results and the dead
letters as a read_committed consumer sees them, and how far the group got from its committed offsets. The audit headers
(`--audit-headers`) name each answer's source.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from protos.codecs import decode_result
from protos.dead_letters import parse
from tests.support.harness import committed_offsets, iter_committed
from worker.records import Record

SCORE_TOLERANCE = 1e-6
SHOWN = 20
"""Violations of one kind that are written out; all are counted."""


class Expected(msgspec.Struct, frozen=True, gc=False):
    """What has to become of one value: scores by model version, or a dead letter for one of the reasons."""

    scores: Mapping[int, float] = {}
    reasons: frozenset[str] = frozenset()


Expect = Callable[[Record], Expected | None]
"""What is expected of an input record; None where any answer will do."""


class Input(msgspec.Struct, frozen=True, gc=False):
    """One record of the input topic."""

    digest: str
    expected: Expected | None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One result or dead letter as it was published."""

    topic: str
    partition: int
    offset: int
    source: tuple[int, int]
    """Partition and offset of the input it claims to answer."""
    digest: str
    worker: str
    generation: str
    reason: str = ""
    """Of a dead letter; empty for a result."""
    score: float = 0.0
    version: int = 0


@dataclass
class Report:
    """The outcome. Everything but the first three has to be zero."""

    messages: int = 0
    results: int = 0
    dead_letters: int = 0
    lost: int = 0
    """Below the committed offset, yet neither result nor dead letter."""
    duplicated: int = 0
    """Answers beyond the first."""
    out_of_order: int = 0
    from_nowhere: int = 0
    """Answers to something that is not in the input topic, or not committed."""
    wrong_input: int = 0
    """Answers whose SHA-256 is not the input's."""
    wrong_answer: int = 0
    """A score that is not the model's, a dead letter for an answerable review, a result for a record without one."""
    lag: int = 0
    """Visible records at or above the committed offset."""
    shown: dict[str, list[str]] = field(default_factory=dict)

    @property
    def violations(self) -> dict[str, int]:
        """What went wrong and how often; empty when all is well."""
        counts = {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "out of order": self.out_of_order,
            "from nowhere": self.from_nowhere,
            "wrong input": self.wrong_input,
            "wrong answer": self.wrong_answer,
            "lag": self.lag,
        }
        return {name: count for name, count in counts.items() if count}

    def note(self, kind: str, sentence: str) -> None:
        shown = self.shown.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(sentence)

    def __str__(self) -> str:
        return (
            f"{self.messages:,} messages checked: {self.results:,} results, {self.dead_letters:,} dead letters; "
            f"{self.lost:,} lost, {self.duplicated:,} duplicated, {self.out_of_order:,} out of order, "
            f"{self.from_nowhere:,} from nowhere, {self.wrong_input:,} of another input, "
            f"{self.wrong_answer:,} wrong, lag {self.lag:,}"
        )


@dataclass(frozen=True)
class Topics:
    """Where a run took place."""

    bootstrap: str
    group: str
    reviews: str
    labels: str
    dead: str


def check_topics(topics: Topics, expect: Expect, *, history: Path | None = None) -> Report:
    """Reads the topics and judges them. With violations, every record of the run is kept in `history`."""
    inputs = read_inputs(topics, expect)
    answers = list(read_answers(topics))
    committed = committed_offsets(topics.bootstrap, topics.group, topics.reviews)
    report = judge(inputs, answers, committed)
    if report.violations and history is not None:
        write_history(history, inputs, answers, committed, report)
    return report


def read_inputs(topics: Topics, expect: Expect) -> dict[tuple[int, int], Input]:
    """Every visible record of the input topic, by partition and offset."""
    return {
        (record.partition, record.offset): Input(digest(record.value), expect(record))
        for record in iter_committed(topics.bootstrap, topics.reviews)
    }


def digest(value: bytes | None) -> str:
    """As the worker's audit header writes it."""
    return hashlib.sha256(value or b"").hexdigest()


def read_answers(topics: Topics) -> Iterable[Answer]:
    """Results and dead letters, each topic's partitions in their order."""
    for record in iter_committed(topics.bootstrap, topics.labels, topics.dead):
        told = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        source = told.get("inferry-source", "").rsplit("/", 2)
        known = len(source) == 3 and source[0] == topics.reviews
        answer = Answer(
            record.topic,
            record.partition,
            record.offset,
            (int(source[1]), int(source[2])) if known else (-1, -1),
            told.get("inferry-input-sha256", ""),
            told.get("inferry-worker", ""),
            told.get("inferry-generation", ""),
        )
        if record.topic == topics.dead:
            yield msgspec.structs.replace(answer, reason=parse(record.headers).reason or "none")
        else:
            result = decode_result(record.value or b"", record.headers)
            yield msgspec.structs.replace(answer, score=result.score, version=result.model_version)


def judge(
    inputs: Mapping[tuple[int, int], Input],
    answers: Sequence[Answer],
    committed: Mapping[int, int],
) -> Report:
    """The rules. Pure. `committed`: offsets by input partition; answers partition by partition, each in its order."""
    report = Report(messages=len(inputs))
    report.dead_letters = sum(bool(answer.reason) for answer in answers)
    report.results = len(answers) - report.dead_letters
    _count(report, inputs, answers, committed)
    _order(report, answers)
    for answer in answers:
        found = inputs.get(answer.source)
        if found is not None:
            _compare(report, answer, found)
    return report


def _count(
    report: Report,
    inputs: Mapping[tuple[int, int], Input],
    answers: Sequence[Answer],
    committed: Mapping[int, int],
) -> None:
    counts = Counter(answer.source for answer in answers)
    for source in inputs:
        partition, offset = source
        times = counts.pop(source, 0)
        is_committed = offset < committed.get(partition, 0)
        if not is_committed:
            report.lag += 1
            report.note("lag", f"{partition}/{offset}")
        if is_committed and times == 0:
            report.lost += 1
            report.note("lost", f"{partition}/{offset}")
        elif not is_committed and times:
            report.from_nowhere += times
            report.note("from nowhere", f"{partition}/{offset} is answered, but not committed")
        if times > 1:
            report.duplicated += times - 1
            report.note("duplicated", f"{partition}/{offset}: {times} times")
    for (partition, offset), times in counts.items():
        report.from_nowhere += times
        report.note("from nowhere", f"{partition}/{offset} is not in the input topic")


def _order(report: Report, answers: Iterable[Answer]) -> None:
    """Source offsets rise within each source partition, in each partition of results or dead letters. Repeats are counted
    as duplicates and not here."""
    last: dict[tuple[str, int, int], int] = {}
    seen: set[tuple[int, int]] = set()
    for answer in answers:
        if answer.source in seen:
            continue
        seen.add(answer.source)
        partition, offset = answer.source
        lane = (answer.topic, answer.partition, partition)
        if offset <= last.get(lane, -1):
            report.out_of_order += 1
            report.note("out of order", f"{answer.topic}/{answer.partition}/{answer.offset}: {partition}/{offset}")
        last[lane] = max(offset, last.get(lane, -1))


def _compare(report: Report, answer: Answer, found: Input) -> None:
    where = f"{answer.topic}/{answer.partition}/{answer.offset} for {answer.source[0]}/{answer.source[1]}"
    if answer.digest != found.digest:
        report.wrong_input += 1
        report.note("wrong input", f"{where}: {answer.digest[:12]} instead of {found.digest[:12]}")
    expected = found.expected
    if expected is None:
        return
    if answer.reason:
        right = answer.reason in expected.reasons
        got = f"a dead letter ({answer.reason})"
    else:
        right = abs(expected.scores.get(answer.version, float("inf")) - answer.score) <= SCORE_TOLERANCE
        got = f"score {answer.score} by version {answer.version}"
    if not right:
        report.wrong_answer += 1
        wanted = f"one of {sorted(expected.reasons)}" if expected.reasons else f"scores {dict(expected.scores)}"
        report.note("wrong answer", f"{where}: {got}; expected {wanted}")


def write_history(
    path: Path,
    inputs: Mapping[tuple[int, int], Input],
    answers: Iterable[Answer],
    committed: Mapping[int, int],
    report: Report,
) -> None:
    """Appends everything the judgement stands on, one JSON object a line."""
    with path.open("a") as file:
        for kind, sentences in report.shown.items():
            for sentence in sentences:
                print(json.dumps({"violation": kind, "detail": sentence}), file=file)
        print(json.dumps({"committed": dict(committed)}), file=file)
        for (partition, offset), found in inputs.items():
            print(json.dumps({"input": f"{partition}/{offset}", "sha256": found.digest}), file=file)
        for answer in answers:
            print(json.dumps({"answer": msgspec.to_builtins(answer)}), file=file)
