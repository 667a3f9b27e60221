"""A floor: what kafka-python alone costs to consume every review and produce one small result for it.

usage: python -m tests.bench.loops.floor_kafka_python BOOTSTRAP INPUT OUTPUT COUNT …
"""

from __future__ import annotations

import sys

from kafka import KafkaConsumer, KafkaProducer

from tests.bench.loops.stopwatch import Stopwatch

RESULT = b"x" * 250
"""As long as a JSON result."""


def main() -> None:
    """Prints the stopwatch's reading."""
    bootstrap, source, target, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    consumer = KafkaConsumer(
        source, bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_poll_records=1024, metrics_enabled=False
    )
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=100, batch_size=262_144, metrics_enabled=False)
    seen = 0
    watch = Stopwatch()
    while seen < count:
        for partition, records in consumer.poll(500).items():
            for record in records:
                producer.send(target, RESULT, key=record.key, partition=partition.partition)
            seen += len(records)
        producer.flush()
    watch.tell()


if __name__ == "__main__":
    main()
