"""The driver over librdkafka, by way of confluent-kafka: the extra `librdkafka`.

Read in librdkafka 2.16 and confluent-kafka 2.16.1. By default it speaks the classic group protocol with eager rebalances, as
kafka-python does: members with either client can share a group. On demand it speaks cooperative rebalances (KIP-429) or the
group protocol of KIP-848.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, Producer

from worker.kafka.driver import NewTopic
from worker.kafka.drivers.librdkafka.admin import Admin, TopicWatch
from worker.kafka.drivers.librdkafka.connecting import connect
from worker.kafka.drivers.librdkafka.consumer import LibrdkafkaConsumer
from worker.kafka.drivers.librdkafka.errors import Heard, translated
from worker.kafka.drivers.librdkafka.options import consumer_options, producer_options, transactional_options
from worker.kafka.drivers.librdkafka.producer import BatchSize, LibrdkafkaProducer
from worker.ports import Clock
from worker.records import Partition
from worker.settings import Settings


class Librdkafka:
    """See driver.Driver."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._batch_size = BatchSize()

    def open_consumer(self) -> LibrdkafkaConsumer:
        """See driver.Driver."""
        settings, heard = self._settings, Heard()
        with translated():
            client = Consumer(consumer_options(settings) | {"error_cb": heard})
        self._connect(client, heard, settings.input_topic)
        admin = self._admin()
        return LibrdkafkaConsumer(
            client,
            settings.input_topic,
            admin=admin,
            watch=TopicWatch(admin, settings.input_topic, self._clock),
            heard=heard,
            clock=self._clock,
            group_protocol=settings.kafka_group_protocol,
            instance_id=settings.instance_id,
            request_timeout_seconds=settings.kafka_request_timeout_seconds,
        )

    def open_producer(self, transactional_id: str = "") -> LibrdkafkaProducer:
        """See driver.Driver."""
        settings, heard = self._settings, Heard()
        if not self._batch_size.limited:
            self._batch_size.limit(self._admin().batch_limits([settings.output_topic, settings.dead_letter_topic]))
        with translated():
            options = producer_options(settings, batch_bytes=self._batch_size.bytes)
            if transactional_id:
                options |= transactional_options(settings, transactional_id)
            client = Producer(options | {"error_cb": heard})
        self._connect(client, heard, settings.output_topic)
        if transactional_id:
            # Once more: only then is the connection there that the next call would look for every 500 ms.
            self._connect(client, heard, settings.output_topic)
            with translated():
                client.init_transactions(settings.kafka_delivery_timeout_seconds)
        return LibrdkafkaProducer(
            client,
            self._clock,
            heard=heard,
            batch_size=self._batch_size,
            delivery_timeout_seconds=settings.kafka_delivery_timeout_seconds,
            transaction_timeout_seconds=settings.transaction_timeout_seconds,
        )

    def create_topics(self, topics: Sequence[NewTopic]) -> None:
        """See driver.Driver."""
        self._admin().create(topics)

    def set_group_offsets(self, offsets: Mapping[Partition, int], metadata: str) -> None:
        """See driver.Driver."""
        self._admin().set_group_offsets(self._settings.group, offsets, metadata)

    def _connect(self, client: Consumer | Producer, heard: Heard, topic: str) -> None:
        limit = min(self._settings.kafka_request_timeout_seconds, self._settings.startup_seconds)
        connect(client, heard, topic, seconds=limit, clock=self._clock)

    def _admin(self) -> Admin:
        return Admin(self._settings, self._clock)
