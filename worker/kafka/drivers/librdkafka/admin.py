"""What is asked of the brokers beside reading and sending: topics, their ids, and where partitions begin and end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Event
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec
from confluent_kafka.admin import NewTopic as ClientsNewTopic

from worker.kafka.driver import GroupHasMembers, KafkaFailure, NewTopic, Refused, Unreachable
from worker.kafka.drivers.librdkafka.errors import Heard, ours, translated
from worker.kafka.drivers.librdkafka.options import connection_options
from worker.ports import Clock
from worker.records import Partition
from worker.settings import Settings

ASK_SECONDS = 0.25
"""How often a topic's id is asked for again, at 0.25 ms of CPU. For so long, and no longer, records of a topic that was made
anew can be taken for those of the old one, where it has more of them already."""
SILENT_SECONDS = 3.0
"""The brokers count as out of reach once they have not answered that for so long."""
WAIT_SECONDS = 0.1
NEVER = -1
"""The offset of a time that no record has."""

T = TypeVar("T")


class Topic(NamedTuple):
    """What the brokers say of a topic."""

    id: str
    """As kafka-python writes it too, so that offsets committed over one client count for the other; empty where brokers give
    topics no ids (before 2.8)."""
    partitions: int


class Admin:
    """A connection of its own. Every call blocks up to the request timeout."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._seconds = settings.kafka_request_timeout_seconds
        self._clock = clock
        self._heard = Heard()
        with translated():
            self._client = AdminClient(connection_options(settings) | {"error_cb": self._heard})

    def ask_for_topics(self, topics: Collection[str]) -> dict[str, Future[Any]]:
        """Asks what there is to know of each topic, and returns at once."""
        with translated():
            found: dict[str, Future[Any]] = self._client.describe_topics(
                TopicCollection(list(topics)), request_timeout=self._seconds
            )
        return found

    def topics(self, topics: Collection[str]) -> dict[str, Topic]:
        """Each topic that exists. Raises TlsRefused, CredentialsRefused where that is why nobody answers."""
        asked = self.ask_for_topics(topics)
        try:
            found = {name: _topic(self._result(future)) for name, future in asked.items() if not self._unknown(future)}
        except Unreachable:
            # The first connection goes to the bootstrap address; this one to what a broker calls itself, which its
            # certificate may not name.
            self._client.poll(0)
            if self._heard.refusal is not None:
                raise self._heard.refusal from None
            raise
        return {name: topic for name, topic in found.items() if topic.partitions}

    def create(self, topics: Sequence[NewTopic]) -> None:
        """See driver.Driver.create_topics."""
        new = [
            ClientsNewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication,
                config=dict(topic.configs),
            )
            for topic in topics
        ]
        with translated():
            created = self._client.create_topics(new, request_timeout=self._seconds)
        for future in created.values():
            try:
                self._result(future)
            except KafkaFailure as failure:
                if failure.status != "TOPIC_ALREADY_EXISTS":
                    raise
        self._wait_for(topic.name for topic in topics)

    def _wait_for(self, names: Any) -> None:
        deadline = self._clock.monotonic() + self._seconds
        missing = set(names)
        while missing := missing - self.topics(missing).keys():
            if self._clock.monotonic() > deadline:
                raise Unreachable(f"these topics do not come up: {', '.join(sorted(missing))}")
            self._clock.wait(Event(), WAIT_SECONDS)

    def set_group_offsets(self, group: str, offsets: Mapping[Partition, int], metadata: str) -> None:
        """See driver.Driver.set_group_offsets."""
        wanted = ConsumerGroupTopicPartitions(group, named(offsets, metadata))
        with translated():
            [future] = self._client.alter_consumer_group_offsets([wanted], request_timeout=self._seconds).values()
        for each in self._result(future).topic_partitions:
            if each.error is None:
                continue
            failure = ours(each.error)
            if each.error.code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP):
                raise GroupHasMembers(str(failure), failure.status)
            raise failure if isinstance(failure, (Unreachable, Refused)) else Refused(str(failure), failure.status)

    def offsets(
        self, partitions: Collection[Partition], spec: OffsetSpec, seconds: float | None = None
    ) -> dict[Partition, int]:
        """The offset that `spec` means in each; partitions without one are missing."""
        if not partitions:
            return {}
        limit = self._seconds if seconds is None else seconds
        with translated():
            asked = self._client.list_offsets(
                {TopicPartition(*partition): spec for partition in partitions},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=limit,
            )
        found = {Partition(tp.topic, tp.partition): self._result(future).offset for tp, future in asked.items()}
        return {partition: offset for partition, offset in found.items() if offset != NEVER}

    def batch_limits(self, topics: Collection[str]) -> list[int]:
        """The largest batch in bytes that each topic takes (`max.message.bytes`); what the brokers do not tell is left
        out: it takes the right to describe configurations."""
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
        limits = []
        with suppress(KafkaFailure), translated():
            for future in self._client.describe_configs(resources, request_timeout=self._seconds).values():
                with suppress(KafkaFailure):
                    limits.append(int(self._result(future)["max.message.bytes"].value))
        return limits

    def _unknown(self, future: Future[Any]) -> bool:
        try:
            return _says_unknown(future.exception(2 * self._seconds))
        except TimeoutError:
            return False

    def _result(self, future: Future[T]) -> T:
        with translated():
            # The client ends each request in time by itself; the limit here is for what nobody foresees.
            try:
                return future.result(2 * self._seconds)
            except TimeoutError as error:
                raise Unreachable("no answer to an admin request") from error


class TopicWatch:
    """Asks for one topic's id again and again, without blocking. It tells two things that the consumer does not: that the
    topic was made anew, and whether brokers answer."""

    def __init__(self, admin: Admin, topic: str, clock: Clock) -> None:
        self._admin = admin
        self._topic = topic
        self._clock = clock
        self._asked: Future[Any] | None = None
        self._asked_at = self._answered_at = clock.monotonic()
        self.ids: dict[str, str] = {}
        """By topic, as far as they are known."""

    @property
    def reachable(self) -> bool:
        """Whether the brokers have answered lately."""
        return self._clock.monotonic() - self._answered_at < SILENT_SECONDS

    def look(self) -> None:
        """Takes the answer if it is there, and asks again when it is time. Never blocks, never raises."""
        if self._asked is not None and self._asked.done():
            self._take(self._asked)
            self._asked = None
        now = self._clock.monotonic()
        if self._asked is None and now - self._asked_at >= ASK_SECONDS:
            self._asked_at = now
            with suppress(KafkaFailure):
                self._asked = self._admin.ask_for_topics([self._topic])[self._topic]

    def _take(self, answer: Future[Any]) -> None:
        error = answer.exception()
        if error is None:
            self.ids[self._topic] = _topic(answer.result()).id
        if error is None or _says_unknown(error):
            self._answered_at = self._clock.monotonic()


def named(offsets: Mapping[Partition, int], metadata: str) -> list[TopicPartition]:
    """Offsets to commit, as the client wants them."""
    return [TopicPartition(*partition, offset, metadata=metadata) for partition, offset in offsets.items()]


def _topic(described: Any) -> Topic:
    told = described.topic_id
    if told is None:
        return Topic("", len(described.partitions))
    number = (_unsigned(told.get_most_significant_bits()) << 64) + _unsigned(told.get_least_significant_bits())
    return Topic(str(UUID(int=number)) if number else "", len(described.partitions))


def _unsigned(bits: int) -> int:
    """64 bits that the client takes for a signed number."""
    return bits % 2**64


def _says_unknown(error: BaseException | None) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
