"""The driver over kafka-python 3.0: its calls, its settings and its errors, and what it keeps private or gets wrong.

Read in kafka-python 3.0.12. Where it is worked around, a comment names the client's file, and a test on a real broker says
when that is not needed any more. pyproject.toml bounds the version, since private attributes are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors
from kafka.admin import NewTopic as ClientsNewTopic

from worker.kafka.driver import GroupHasMembers, NewTopic, Refused, Unreachable
from worker.kafka.drivers.kafka_python.consumer import KafkaPythonConsumer, named
from worker.kafka.drivers.kafka_python.errors import translated
from worker.kafka.drivers.kafka_python.header_names import read_any_header_name
from worker.kafka.drivers.kafka_python.options import (
    connection_options,
    consumer_options,
    producer_options,
    transactional_options,
)
from worker.kafka.drivers.kafka_python.producer import KafkaPythonProducer, throw_away
from worker.ports import Clock
from worker.records import Partition
from worker.settings import Settings


class KafkaPython:
    """See driver.Driver."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def open_consumer(self) -> KafkaPythonConsumer:
        """See driver.Driver."""
        read_any_header_name()
        settings = self._settings
        with translated():
            client = KafkaConsumer(**consumer_options(settings))
            # Before the client has any metadata: to a leader that subscribes later, the topic's partitions come as a
            # surprise at the next refresh, and the whole group rebalances (coordinator/consumer.py, _metadata_snapshot).
            client.subscribe([settings.input_topic])
        return KafkaPythonConsumer(client, self._clock, request_timeout_seconds=settings.kafka_request_timeout_seconds)

    def open_producer(self, transactional_id: str = "") -> KafkaPythonProducer:
        """See driver.Driver."""
        settings = self._settings
        with translated():
            options = producer_options(settings)
            if transactional_id:
                options |= transactional_options(settings, transactional_id)
            client = KafkaProducer(**options)
            try:
                if transactional_id:
                    client.init_transactions()
            except BaseException:
                throw_away(client)
                raise
        return KafkaPythonProducer(
            client,
            self._clock,
            delivery_timeout_seconds=settings.kafka_delivery_timeout_seconds,
            transaction_timeout_seconds=settings.transaction_timeout_seconds,
        )

    def create_topics(self, topics: Sequence[NewTopic]) -> None:
        """See driver.Driver."""
        new = [
            ClientsNewTopic(topic.name, topic.partitions, topic.replication, topic_configs=dict(topic.configs))
            for topic in topics
        ]
        with translated(), closing(self._admin()) as admin:
            admin.create_topics(new, raise_errors=False)
            admin.wait_for_topics([topic.name for topic in topics])

    def set_group_offsets(self, offsets: Mapping[Partition, int], metadata: str) -> None:
        """See driver.Driver."""
        with translated(), closing(self._admin()) as admin:
            outcomes = admin.alter_group_offsets(self._settings.group, named(offsets, metadata))
        for error in outcomes.values():
            if error is kafka_errors.NoError:
                continue
            if (
                error is kafka_errors.UnknownMemberIdError
            ):  # said to a caller that is no member of a group that has some
                raise GroupHasMembers(error.__name__, error.__name__)
            failure = Unreachable if error.retriable else Refused
            raise failure(error.__name__, error.__name__)

    def _admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(**connection_options(self._settings))
