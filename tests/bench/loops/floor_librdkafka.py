"""A floor: what librdkafka alone costs to consume every review and produce one small result for it.

usage: python -m tests.bench.loops.floor_librdkafka BOOTSTRAP INPUT OUTPUT COUNT …
"""

from __future__ import annotations

import sys

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.bench.loops.floor_kafka_python import RESULT
from tests.bench.loops.stopwatch import Stopwatch


def take_all(consumer: Consumer, topic: str) -> None:
    """Assigns every partition from its beginning: joining a group takes seconds that are not the reviews'."""
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])


def main() -> None:
    """Prints the stopwatch's reading."""
    bootstrap, source, target, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"floor-{source}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    take_all(consumer, source)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 100, "batch.size": 262_144})
    seen = 0
    watch = Stopwatch()
    while seen < count:
        records = consumer.consume(1024, 0.5)
        for record in records:
            producer.produce(target, RESULT, key=record.key(), partition=record.partition())
        producer.flush()
        seen += len(records)
    watch.tell()
    consumer.close()


if __name__ == "__main__":
    main()
