"""The values that flow through the worker. Immutable, and they import nothing of ours.

They are msgspec structs rather than dataclasses because one is made for every review: creating a frozen
dataclass with slots costs about ten times as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

Headers = Sequence[tuple[str, bytes]]


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


class Review(msgspec.Struct, frozen=True, gc=False):
    """A review that has been decoded and found answerable."""

    id: str
    """The producer's id, or the record's result id where it gave none."""
    text: str
    attributes: Mapping[str, str] = {}


class Row(NamedTuple):
    """One review, encoded for one model version."""

    content: bytes
    """Token ids packed in the model's dtype, little-endian; for a model that takes text, its UTF-8."""
    tokens: int
    """How many tokens `content` holds; for a model that takes text, 1."""
    truncated: bool
    """Whether tokens beyond the model's limit were cut off."""


class DType(StrEnum):
    """The tensor element types we send and read, by TensorFlow's names (tensorflow/core/framework/types.proto)."""

    FLOAT = "DT_FLOAT"
    DOUBLE = "DT_DOUBLE"
    INT32 = "DT_INT32"
    INT64 = "DT_INT64"
    STRING = "DT_STRING"


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """A dense tensor ready for the wire: `content` little-endian and row-major, or `strings` for DT_STRING."""

    dtype: DType
    shape: tuple[int, ...]
    content: bytes = b""
    strings: Sequence[bytes] = ()


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


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that can never be answered, and why."""

    record: Record
    reason: Reason
    detail: str
    """A sentence for a person: what, where, and what to do."""
    stage: str = "decode"
    """Where it failed: decode, encode, predict or deliver."""


class EncoderKind(StrEnum):
    """How a model wants its text; the value is what its card calls it."""

    SUBWORDS = "tfds-subwords"
    WORDPIECE = "wordpiece"
    TEXT = "text"
    """As it is, in UTF-8: the model encodes for itself."""


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


class BuiltEncoder(NamedTuple):
    """An encoder, and what it says of its vocabulary, to be held against the model's card."""

    encoder: Any
    """A `ports.Encoder`."""
    vocabulary_size: int = 0
    digest: str = ""
    """`sha256:<hex>` of the vocabulary's file; empty for a model that takes text."""


class ServedModel(msgspec.Struct, frozen=True):
    """One model version and all that is needed to feed it and to read its scores."""

    name: str
    version: int
    labels: tuple[str, ...]
    """For one sigmoid output (negative, positive); for k outputs, k labels."""
    threshold: float
    """With one output: a score at or above it gets the second label."""
    encoder: Any
    """A `ports.Encoder` made from this version's own vocabulary."""
    digest: str = ""
    """`sha256:<hex>` of the vocabulary's text, or empty for a model that takes text."""
    length: int | None = None
    """Tokens of every row, where the model's input is not open in length."""
