"""Reviews that keep coming, from a process of their own: `python -m tests.support.load BOOTSTRAP TOPIC FILE`.

The file's lines are sent over and over as they are, until standard input is closed; then the process ends, with 0 if every
record was acknowledged. (A process, because kafka-python leaves the sockets of refused connections to the garbage
collector, and in the tests' own process each would be an error.)
"""

from __future__ import annotations

import itertools
import sys
import threading
from pathlib import Path

from kafka import KafkaProducer

EVERY_SECONDS = 0.01
LINES_EACH = 4
KEYS = 97
WAIT_SECONDS = 90


def main(bootstrap: str, topic: str, file: str) -> None:
    stop = threading.Event()

    def wait_for_the_end_of_input() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end_of_input, daemon=True).start()
    lines = itertools.cycle(Path(file).read_bytes().splitlines())
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    sent = []
    for number in itertools.count():
        key = b"key %d" % (number % KEYS)
        sent += [producer.send(topic, line, key=key) for line in itertools.islice(lines, LINES_EACH)]
        if stop.wait(EVERY_SECONDS):
            break
    for future in sent:
        future.get(WAIT_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
