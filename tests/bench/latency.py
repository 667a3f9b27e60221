"""How long a review waits for its result: one at a time to an idle worker, and many a second to a busy one.

A review's time runs from the moment it was due to be sent, not from the moment it was: a sender that falls behind would
hide just the waits that matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from threading import Thread

from confluent_kafka import Consumer, Producer

from protos.codecs import ReviewMessage, decode_result, encode_review
from tests.bench.figures import Wait
from tests.bench.running import Place, WorkerUnderTest

IDLE_PER_SECOND = 3.0
IDLE_REVIEWS = 60
BUSY_SECONDS = 20.0
WARM_UP = 0.2
"""The share of the reviews that is left out at the beginning: they wait for connections and assignments."""
PATIENCE_SECONDS = 60.0


def measure(
    name: str, place: Place, arguments: Sequence[str], texts: Sequence[str], *, per_second: float, count: int
) -> Wait:
    """Sends `count` reviews at this rate to a worker of its own, and waits for every result."""
    worker = WorkerUnderTest(place, arguments)
    try:
        worker.wait_ready()
        waits = _waits(place, texts, per_second, count)
    finally:
        worker.stop()
    waits = sorted(waits[int(count * WARM_UP) :])
    return Wait(name, per_second, len(waits), _quantile(waits, 0.5) * 1000, _quantile(waits, 0.99) * 1000)


def _waits(place: Place, texts: Sequence[str], per_second: float, count: int) -> list[float]:
    """Seconds for each review, in the order they were sent."""
    reviews, results, _ = place.topics
    consumer = Consumer(
        {
            "bootstrap.servers": place.bootstrap,
            "group.id": f"latency-{results}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([results])
    started = time.perf_counter() + 2.0  # the consumer has its partitions by then
    sender = Thread(target=_send, args=(place.bootstrap, reviews, texts, count, lambda n: started + n / per_second))
    sender.start()
    try:
        waits: dict[int, float] = {}
        deadline = started + count / per_second + PATIENCE_SECONDS
        while len(waits) < count:
            for record in consumer.consume(1000, 0.05):
                n = int(decode_result(record.value()).review_id)
                waits[n] = time.perf_counter() - (started + n / per_second)
            if time.perf_counter() > deadline:
                raise SystemExit(f"only {len(waits):,} of {count:,} reviews were answered")
        return [waits[n] for n in range(count)]
    finally:
        sender.join()
        consumer.close()


def _send(bootstrap: str, topic: str, texts: Sequence[str], count: int, due: Callable[[int], float]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    for n, text in enumerate(islice(cycle(texts), count)):
        while (left := due(n) - time.perf_counter()) > 0:
            producer.poll(0)
            time.sleep(min(left, 0.005))
        producer.produce(topic, encode_review(ReviewMessage(str(n), text)), key=b"%d" % n)
    producer.flush()


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
