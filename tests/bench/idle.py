"""How long a single review waits for its result when the worker has nothing else to do."""

from __future__ import annotations

import time
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer

from tests.bench.candidates import WorkerUnderTest
from tests.conftest import create_topics
from tests.support.model_server import ServerHandle

GAP_SECONDS = 0.3


def first_result_seconds(bootstrap: str, server: ServerHandle, delivery: str, count: int, folder: Path) -> list[float]:
    """For each of `count` reviews sent one at a time: seconds from its send to its result being visible."""
    names = create_topics(bootstrap, partitions=1)
    worker = WorkerUnderTest(bootstrap, server.grpc_target, names, folder, ("--delivery", delivery))
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    consumer = KafkaConsumer(
        names[1],
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        consumer_timeout_ms=20_000,
    )
    try:
        worker.wait_ready()
        waits = []
        for number in range(count + 1):
            started = time.perf_counter()
            producer.send(names[0], b"That movie i saw the other day was fantastic", key=b"%d" % number).get(20)
            next(consumer)
            waits.append(time.perf_counter() - started)
            time.sleep(GAP_SECONDS)
        return waits[1:]  # the first one waited for connections and assignments, ours and the worker's
    finally:
        producer.close()
        consumer.close()
        worker.stop()
