"""The values that flow through the worker. Immutable, and they import nothing of ours but the contract in `protos`.

They are msgspec structs rather than dataclasses because one is made for every review: creating a frozen
dataclass with slots costs about ten times as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from protos.model_card import EncoderKind

Headers = Sequence[tuple[str, bytes]]
CONTEXT_HEADERS = ("traceparent", "tracestate")
"""The headers of a trace's context (https://www.w3.org/TR/trace-context/)."""

UNREADABLE_HEADERS: Headers = (("inferry-unreadable-headers", b""),)
"""In place of a record's headers where the Kafka client cannot read them. Known by identity."""


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record as it was read; nothing in it has been looked at yet."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """Milliseconds since the epoch, from the record itself (the producer's or the broker's clock)."""
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def result_id(self) -> str:
        """The id every repeat of this record's answer carries: `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Membership(msgspec.Struct, frozen=True, gc=False):
    """A source's place in its consumer group, as it stood at one moment. The default: not a member."""

    generation: int = -1
    """The group's generation, which every rebalance raises; negative while not a member."""
    member: str = ""
    """The id that the group gave this member; empty while not a member."""
    instance_id: str = ""
    """The id of a static member (KIP-345), which outlives its process."""
    rebalancing: bool = False
    """Whether a rebalance is under way. Until it is over, the source may only poll."""
    token: object = None
    """What the client itself needs to be fenced by this membership. Only the driver that made it looks inside."""

    @property
    def joined(self) -> bool:
        """Whether this is a membership that brokers can fence: they accept offsets without a generation unfenced."""
        return self.generation >= 0 and bool(self.member)

    def same(self, other: Membership) -> bool:
        """Whether both are of the same member in the same generation."""
        return (self.generation, self.member) == (other.generation, other.member)


class Window(msgspec.Struct, frozen=True, gc=False):
    """What one poll brought: the unit of delivery and of the commit."""

    records: Sequence[Record]
    """In the order of each partition; never empty."""
    next_offsets: Mapping[Partition, int]
    """For each partition in the window, the offset to commit once every record is answered."""
    membership: Membership = Membership()
    """The Source's right to these partitions as it stood at the poll. Delivery hands it back, so that a worker that has
    lost the right is fenced."""
    contexts: Mapping[str, Headers] = {}
    """For reviews that are traced, by result id: the headers that take the trace on into their answers (W3C Trace Context).
    Empty until the answers are there, and where nothing is traced."""


class DType(StrEnum):
    """The element types of the tensors we send and read."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INT32 = "int32"
    INT64 = "int64"
    TEXT = "text"
    """Strings of bytes: UTF-8."""


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """A dense tensor ready for the wire: `content` little-endian and row-major, or `strings` for text."""

    dtype: DType
    shape: tuple[int, ...]
    content: bytes = b""
    strings: Sequence[bytes] = ()


class Retry(NamedTuple):
    """Something failed for now and is tried again."""

    what: str
    """start, predict, model, deliver or kafka; process in the log of a parent of several."""
    status: str
    """What failed, as the server or client names it: a metric's label, never decided by."""
    attempt: int
    """Attempts that have failed in a row, this one included."""
    delay_seconds: float
    """How long it waits before the next one."""
    detail: str
    """A sentence for a person."""

    @property
    def told(self) -> dict[str, object]:
        """Its fields as a log line has them."""
        return self._replace(delay_seconds=round(self.delay_seconds, 3))._asdict()


class Batch(msgspec.Struct, frozen=True, gc=False):
    """A micro-batch: some rows of a window, to be sent in one Predict request."""

    rows: Sequence[int]
    """Indexes into the window's list of encoded reviews; each index is in exactly one batch."""
    longest: int
    """Tokens of the longest row: what every row of the batch is padded to."""


class Reason(StrEnum):
    """Why a record can never be answered. A closed list: it is a metric label and a header."""

    MALFORMED = "malformed"
    NOT_UTF8 = "not-utf8"
    NO_TEXT = "no-text"
    EMPTY = "empty"
    TOO_LARGE = "too-large"
    UNKNOWN_CONTENT_TYPE = "unknown-content-type"
    REJECTED_BY_MODEL = "rejected-by-model"
    """The model refuses it, or answers it alone without a usable score: NaN, or outside the model's range."""
    CRASHES_MODEL = "crashes-model"
    """The server dies or hangs on it, and on it alone."""
    RESULT_TOO_LARGE = "result-too-large"


class Labelled(msgspec.Struct, frozen=True, gc=False):
    """The answer to one review."""

    record: Record
    review_id: str
    label: str
    score: float
    """The score of the positive class for a model with one output, of the label given for one with several."""
    model_name: str
    model_version: int
    tokens: int
    truncated: bool
    labels: Sequence[str] = ()
    scores: Sequence[float] = ()
    """Every label and its score, where the settings ask for them; otherwise both are empty."""
    attributes: Mapping[str, str] | None = None
    """Attributes of the review that its result has, too; None where the settings name none, or the review has none of
    them."""


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that can never be answered, and why."""

    record: Record
    reason: Reason
    detail: str
    """A sentence for a person: what, where, and what to do."""
    stage: str = "decode"
    """Where it failed: decode, encode, predict or deliver."""


class EncoderSpec(msgspec.Struct, frozen=True):
    """All that is needed to make the encoder of one model version."""

    kind: EncoderKind
    dtype: DType
    max_tokens: int
    padding_id: int = 0
    length: int | None = None
    """Tokens of every row, where the model's input is not open in length."""
    subwords: tuple[str, ...] = ()
    """The vocabulary as the model itself tells it, in the order of its ids."""
    vocabulary: bytes = b""
    """The vocabulary's file, where it comes from one instead."""
    normaliser: str = ""
    """What is done to a text first, by the name in the model's card. Empty: nothing."""
