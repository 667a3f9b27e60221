"""What the policy of this package asks of a Kafka client, in our terms, and how the client's failures are told.

A driver (see `worker.kafka.drivers`) is one client with its quirks. It translates, and it decides nothing: which records
count, when to go back, what may follow a commit in doubt is decided above, once for all clients.

Every method raises nothing but KafkaFailure, and one of its subclasses wherever the policy treats that case differently.
Offsets are ints; the offset to commit or to seek is that of the next record to read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol

import msgspec

from worker.records import Membership, Partition, Record

# --- failures --------------------------------------------------------------------------------------------------------


class KafkaFailure(Exception):
    """A call of the client failed; trying again later, from the committed offsets, may help. The message is one line.

    No driver failure leaves this package: `worker.kafka.failures` and its callers say what each means to the worker."""

    def __init__(self, message: str, status: str = "") -> None:
        super().__init__(message)
        self.status = status or type(self).__name__
        """The client's own name for it, for the retry metric and the log. Never decided by."""


class Unreachable(KafkaFailure):
    """The brokers, or the one that matters, do not answer or are not ready: nothing is wrong with the request."""


class Refused(KafkaFailure):
    """No waiting mends it: not authorized, a setting the client does not take, a codec or a protocol it lacks."""


class CredentialsRefused(Refused):
    """The brokers do not take the credentials."""


class TlsRefused(Refused):
    """One side does not take the other's certificate, or the brokers speak no TLS. The message says what to do."""


class FencedInstance(KafkaFailure):
    """Another live process has joined the group with this one's instance id (KIP-345)."""


class FencedProducer(KafkaFailure):
    """A newer producer with this one's transactional id has been opened, or the transaction has timed out."""


class NoCommittedOffset(KafkaFailure):
    """A partition was assigned that has no position yet and no committed offset."""


class OffsetOutOfRange(KafkaFailure):
    """A position lies outside of what the partition holds."""


class UnreadableRecord(KafkaFailure):
    """A record at one of the positions cannot be read (a wrong checksum, an unknown codec). The consumer is of no further
    use."""


class TooLarge(KafkaFailure):
    """A record is larger than client or broker take, or waited behind one that is."""


class GroupHasMembers(KafkaFailure):
    """The group's offsets cannot be set from outside while it has members."""


# --- values ----------------------------------------------------------------------------------------------------------


class Committed(NamedTuple):
    """A committed offset and the text that was committed with it."""

    offset: int
    metadata: str


class NewTopic(NamedTuple):
    """A topic to create."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str] = {}


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One record to publish."""

    topic: str
    partition: int | None
    """None: chosen by the key, as Kafka's own clients do (murmur2)."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int | None = None
    """None: the time of sending."""


class NotSent(NamedTuple):
    """A record that the brokers did not take, or may not have taken."""

    place: int
    """Its index among the records given to `send`."""
    failure: KafkaFailure


class Commit(Enum):
    """How a transaction's commit went. In both cases it is committed."""

    CERTAIN = auto()
    DOUBTFUL = auto()
    """A request of the transaction may have been sent twice, and its first copy may still be under way. In the protocol
    from before KIP-890 nothing ties it to its transaction: it could end the next one or set its offsets back. Only the
    epoch of a new producer makes the brokers refuse it."""


# --- protocols -------------------------------------------------------------------------------------------------------


class Consumer(Protocol):
    """A consumer of one topic in the group: it commits nothing by itself, reads only what is committed, and never chooses
    an offset alone. All calls from one thread, the reader's; `membership` and `commit` from any."""

    def poll(self, timeout_seconds: float, max_records: int) -> Mapping[Partition, list[Record]]:
        """Blocks until records came or `timeout_seconds` have passed; longer, by seconds, while a rebalance is under way
        and the client must be polled for it to end. Joins the group, keeps the membership, ends rebalances; the client may
        fetch committed offsets for partitions that are new, but nothing is read from positions it chose itself.

        No list is empty, and all together hold at most `max_records`. Positions move past what is returned.

        Raises NoCommittedOffset, OffsetOutOfRange, UnreadableRecord, FencedInstance, Refused; any other KafkaFailure
        passes by itself. Nothing that was read may get lost by raising: positions then stay before it."""

    def membership(self) -> Membership:
        """The place in the group now. Never blocks, never raises. Taken right after the poll that brought records, it is
        the one they belong to: taken later it may be of another generation, or of none."""

    def assignment(self) -> frozenset[Partition]:
        """The partitions of this member. Never blocks."""

    def reachable(self) -> bool:
        """Whether the group's coordinator is in reach, as far as the client knows. Never blocks."""

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Sets positions of assigned partitions. Never blocks."""

    def position(self, partition: Partition) -> int:
        """The offset after what was returned by `poll`, and after what no poll ever brings: the marks of transactions,
        aborted records, what compaction has removed. -1 while the client has none. Never blocks."""

    def known_ends(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Where partitions ended when they were last fetched; those not fetched yet are missing. Never blocks."""

    def pause(self) -> None:
        """Stops fetching every partition assigned now. One that a rebalance brings may come unpaused, so the policy pauses
        again before each poll. Idempotent, never blocks."""

    def resume(self) -> None:
        """Fetches every assigned partition again, from its position. Idempotent, never blocks."""

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        """The group's committed offsets, read in one request; partitions without one are missing. Waits for open
        transactions of these partitions (KIP-447). Blocks up to the request timeout."""

    def commit(self, offsets: Mapping[Partition, int], metadata: str) -> None:
        """Commits offsets without a transaction. Blocks up to the request timeout, from any thread, also while another
        one polls: a driver whose client cannot do that polls in slices, and commits between two.

        Raises FencedInstance; any other KafkaFailure means that it is not known to be committed."""

    def beginning_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """The first offset there is in each. Blocks up to the request timeout."""

    def end_offsets(
        self, partitions: Collection[Partition], timeout_seconds: float | None = None
    ) -> Mapping[Partition, int]:
        """The offset after the last committed record of each. Blocks up to `timeout_seconds`, or the request timeout."""

    def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> Mapping[Partition, int]:
        """The first offset of each whose record is not older; partitions without such a record are missing. Blocks up to
        the request timeout."""

    def topic_id(self, topic: str) -> str:
        """The topic's id (KIP-516), as far as the client knows, else an empty string: a topic that was deleted and
        recreated has the same name but another id. Never blocks."""

    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """The number of partitions of each; topics that do not exist are missing. Blocks up to the request timeout."""

    def close(self) -> None:
        """Leaves the group, committing nothing. Blocks up to seconds; idempotent, never raises."""


class Producer(Protocol):
    """An idempotent producer, ready to send. All calls from one thread, the deliverer's.

    Once a call has raised, or `send` has told of any failure, only `abort` and `discard` may follow: records and offsets
    that it still holds would come up in the next transaction."""

    def begin(self) -> None:
        """Begins a transaction. Never blocks."""

    def send(self, outgoing: Sequence[Outgoing]) -> Sequence[NotSent]:
        """Sends all and waits for every single acknowledgement, at most the delivery timeout. Returns those that failed;
        once one has, the rest may be left out altogether, and a client may blame the neighbours of one that is TooLarge.

        What is in no such list is durable, and in a transaction part of it."""

    def send_offsets(self, offsets: Mapping[Partition, int], metadata: str, membership: Membership) -> None:
        """Adds offsets to the transaction, as this very membership: brokers refuse them once the group has moved on. Blocks
        up to the transaction's timeout. Raises FencedProducer, FencedInstance, Refused or another KafkaFailure."""

    def commit(self) -> Commit:
        """Commits the transaction. Blocks up to the transaction's timeout. Raises when it was aborted, or when its fate is
        unknown: the next producer with the same transactional id settles that."""

    def abort(self) -> None:
        """Aborts the transaction. Blocks up to the transaction's timeout."""

    def discard(self) -> None:
        """Ends the producer, without sending what it still holds and without waiting for the brokers. Blocks up to
        seconds; idempotent, never raises."""


class Driver(Protocol):
    """One Kafka client. Making it connects to nothing."""

    def open_consumer(self) -> Consumer:
        """Connects. The group is joined at the first poll, not before. Blocks up to the request timeout. Raises Refused
        at once, and not only when its time is up, where the brokers refuse the credentials."""

    def open_producer(self, transactional_id: str = "") -> Producer:
        """Connects. With a transactional id, it fences earlier producers of that id, ends the transaction they may have
        left open, and returns once that is settled. Blocks up to the delivery timeout."""

    def create_topics(self, topics: Sequence[NewTopic]) -> None:
        """Creates topics and waits until the brokers know them; one that exists is left as it is. Raises Unreachable where
        one does not come up. Blocks up to the request timeout, a few times over."""

    def set_group_offsets(self, offsets: Mapping[Partition, int], metadata: str) -> None:
        """Sets committed offsets of the group from outside. Blocks up to the request timeout, a few times over.

        Raises GroupHasMembers; Refused where the brokers do not take them for another reason that no waiting mends."""
