"""What integration tests, fault runs and the bench share: worker processes, records in, answers out.

A worker is started as a user would start it. It dies with the process that started it and is stopped by its process id.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.processes import Process
from worker.kafka.drivers.kafka_python.header_names import read_any_header_name
from worker.records import Record

READY_SECONDS = 60.0
STOP_SECONDS = 40.0
LONGEST_READ_SECONDS = 120.0
WORKER = ("-m", "worker", "run")


class WorkerProcess:
    """One worker, started at once. `settings` are the worker's own by their field names; `program` is what Python runs.

    Its metrics are at a free port unless the settings name one. Its output is appended to `log_path`."""

    def __init__(
        self,
        settings: Mapping[str, object],
        log_path: Path,
        *,
        program: Sequence[str] = WORKER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log_path = log_path
        self._log_start = log_path.stat().st_size if log_path.exists() else 0
        self._port: int | None = None
        given = {"metrics_host": "127.0.0.1", "metrics_port": 0, "log_format": "json", **settings}
        command = [sys.executable, *program, *flags(given)]
        self._process = Process("worker", command, log_path, environment)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.exit_code

    @property
    def log(self) -> str:
        """What this process wrote so far."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    @property
    def port(self) -> int:
        """Of its metrics and probes; known soon after its start, LookupError before that."""
        if self._port is None:
            for line in self.log.splitlines():
                if '"metrics and health"' in line:
                    self._port = int(json.loads(line)["url"].split(":")[2].split("/")[0])
                    break
            else:
                raise LookupError("the worker has not opened its port yet")
        return self._port

    def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> WorkerProcess:
        """Blocks until /readyz says so. Raises ProcessDied when it ends first or takes too long."""
        self._process.wait_until(self.ready, timeout_seconds)
        return self

    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of its HTTP port; status 0 while nothing answers there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, LookupError):
            return 0, ""

    def metrics(self) -> dict[str, float]:
        """Every sample now, by its name and labels: `inferry_results_total{label="positive"}`."""
        found = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    def rss_bytes(self) -> int:
        """Memory it holds now; 0 once it has ended."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return pages * 4096

    def stop(self) -> int | None:
        """SIGTERM, and the exit code."""
        self._process.stop(STOP_SECONDS)
        return self.exit_code

    def kill(self) -> None:
        """SIGKILL. Idempotent."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.signal(signal.SIGCONT)

    def ask(self) -> None:
        """SIGUSR1."""
        self._process.signal(signal.SIGUSR1)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._process.signal(signal.SIGTERM)

    def wait(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """Blocks until it has ended by itself and returns its exit code."""
        wait_for(lambda: self.exit_code is not None, timeout_seconds, "the worker's end")
        assert self.exit_code is not None
        return self.exit_code


def flags(settings: Mapping[str, object]) -> list[str]:
    """Settings as the worker's command line."""
    words: list[str] = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


def wait_for(
    condition: Callable[[], object], timeout_seconds: float, what: str, *, every_seconds: float = 0.05
) -> None:
    """Blocks until `condition()` holds; TimeoutError when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {timeout_seconds:g} s")
        time.sleep(every_seconds)


def produce(
    bootstrap: str,
    topic: str,
    values: Iterable[str | bytes | None],
    *,
    key: Callable[[int], bytes | None] = lambda _index: None,
    headers: Sequence[tuple[str, bytes]] = (),
    partition: int | None = None,
    **options: Any,
) -> int:
    """Sends one record for each value and waits for all of them; returns how many. `key` is given the value's index."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=131_072, **options)
    futures = []
    try:
        for index, value in enumerate(values):
            content = value.encode() if isinstance(value, str) else value
            futures.append(
                producer.send(topic, content, key=key(index), headers=list(headers) or None, partition=partition)
            )
        producer.flush(LONGEST_READ_SECONDS)
        for future in futures:
            future.get(LONGEST_READ_SECONDS)
    finally:
        producer.close()
    return len(futures)


def review_json(text: str, review_id: str = "") -> bytes:
    """A review as a producer writes it."""
    return json.dumps({"id": review_id, "text": text} if review_id else {"text": text}).encode()


def read_committed(bootstrap: str, *topics: str) -> list[Record]:
    """Everything in the topics now that a read_committed consumer may see, partition by partition, each in its order."""
    return list(iter_committed(bootstrap, *topics))


def iter_committed(bootstrap: str, *topics: str) -> Iterable[Record]:
    """As `read_committed`, one record at a time: one partition after another."""
    read_any_header_name()
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False, metrics_enabled=False
    )
    try:
        for topic in topics:
            for number in sorted(consumer.partitions_for_topic(topic) or ()):
                yield from _partition(consumer, TopicPartition(topic, number))
    finally:
        consumer.close(autocommit=False)


def _partition(consumer: KafkaConsumer, partition: TopicPartition) -> Iterable[Record]:
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    deadline = time.monotonic() + LONGEST_READ_SECONDS
    # By position and not by what came last: at the end there may be nothing but the marks of transactions.
    while consumer.position(partition) < end:
        polled = consumer.poll(500, max_records=5_000).get(partition, ())
        if polled:
            deadline = time.monotonic() + LONGEST_READ_SECONDS
        elif time.monotonic() > deadline:
            raise TimeoutError(f"{partition} could not be read to its end {end}: at {consumer.position(partition)}")
        for r in polled:
            if r.offset < end:
                yield Record(
                    partition.topic, partition.partition, r.offset, r.timestamp, r.key, r.value, r.headers or ()
                )


def committed_offsets(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """The group's committed offset by partition; partitions without one are missing."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        found = admin.list_group_offsets({group: None})
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError):
        # A broker makes the topic of all offsets, and loads it, when the first group is asked for.
        return {}
    finally:
        admin.close()
    offsets = found.get(group, {})
    return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == topic and at.offset >= 0}


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """By partition, the offset after the last record that a read_committed consumer may see."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False, metrics_enabled=False
    )
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        return {tp.partition: offset for tp, offset in consumer.end_offsets(partitions).items()}
    finally:
        consumer.close(autocommit=False)


def lag(bootstrap: str, group: str, topic: str) -> int:
    """Records of the topic that the group has not committed."""
    committed = committed_offsets(bootstrap, group, topic)
    return sum(end - committed.get(number, 0) for number, end in end_offsets(bootstrap, topic).items())


def wait_for_lag_zero(bootstrap: str, group: str, topic: str, timeout_seconds: float = 120.0) -> None:
    """Blocks until the group has answered everything in the topic; TimeoutError when that takes too long."""
    wait_for(lambda: lag(bootstrap, group, topic) == 0, timeout_seconds, f"lag 0 on {topic}", every_seconds=0.3)
