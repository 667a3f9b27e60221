"""What traces cost: CPU of the pipeline and of the answers' headers a review, over fakes, with spans sent to a collector in
another process. `python -m tests.bench.traces` prints a row for each way of tracing, the median of several rounds that take
turns; CPU does not depend on what else the machine does as much as time would.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from multiprocessing.connection import Connection
from threading import Event

import msgspec

from protos.codecs import ReviewMessage
from protos.forms import Form
from tests.support.otlp import Collector, traceparent
from worker.kafka.answers import AnswerWriter
from worker.observability import open_tracing
from worker.pipeline import assemble
from worker.ports import Tracing
from worker.records import Headers, Record
from worker.service import pipeline_options
from worker.settings import Settings
from worker.silent_events import SilentEvents
from worker.state import WorkerState
from worker.testing import FakeDelivery, FakeModel, FakeSource, ManualClock
from worker.untraced import Untraced

REVIEWS, WINDOW, ROUNDS = 10_240, 512, 5
TEXT = b"a good film"


def headers(number: int, traced_share: float, *, sampled: bool) -> Headers:
    traced = (number % 100) < traced_share * 100
    return [("traceparent", traceparent(f"{number + 1:032x}", sampled=sampled))] if traced else []


def cpu_microseconds(tracing: Tracing, records: list[Record]) -> float:
    """Of one run, a review."""
    source = FakeSource(records, window_records=WINDOW)
    delivery = FakeDelivery(source)
    events = SilentEvents()
    pipeline = assemble(
        source,
        FakeModel(),
        delivery,
        msgspec.structs.replace(
            pipeline_options(Settings()),
            decode=lambda record: ReviewMessage(record.result_id, (record.value or b"").decode()),
            window_records=WINDOW,
            dead_letter_share=1.0,
            dead_letter_run=0,
            drain_seconds=60.0,
        ),
        state=WorkerState(events.state),
        events=events,
        clock=ManualClock(),
        abandon=Event(),
        tracing=tracing,
    )
    writer = AnswerWriter(
        output_topic="labels",
        dead_letter_topic="dead",
        partitions={"reviews": 1, "labels": 1, "dead": 1},
        form=Form.JSON,
        group="bench",
        worker="bench",
        now_seconds=time.time,
        audit=False,
        pass_headers=Settings().passed_headers,
    )
    began = time.process_time()
    pipeline.run()
    windows = {id(record): window for window in delivery.windows for record in window.records}
    for result in delivery.results:
        writer.result(windows[id(result.record)], result)
    tracing.close()
    return (time.process_time() - began) / len(records) * 1e6


def collect(told: Connection) -> None:
    """The collector's process."""
    collector = Collector()
    told.send(collector.environment)
    told.recv()
    collector.stop()


def main() -> None:
    ways = {
        "off, no review traced": ("off", 0.0, True),
        "off, each review has a context": ("off", 1.0, True),
        "on, no review traced": ("on", 0.0, True),
        "on, 1 in 100 sampled": ("on", 0.01, True),
        "on, each has a context, none sampled": ("on", 1.0, False),
        "on, each sampled": ("on", 1.0, True),
    }
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=collect, args=(there,))
    process.start()
    os.environ |= here.recv()
    found: dict[str, list[float]] = {way: [] for way in ways}
    try:
        for _ in range(ROUNDS):
            for way, (traces, share, sampled) in ways.items():
                records = [
                    Record("reviews", 0, number, 0, b"key", TEXT, headers(number, share, sampled=sampled))
                    for number in range(REVIEWS)
                ]
                tracing = Untraced() if traces == "off" else open_tracing(Settings(traces="on"))
                found[way].append(cpu_microseconds(tracing, records))
    finally:
        here.send("stop")
        process.join()
    for way, costs in found.items():
        print(f"{way:<40} {statistics.median(costs):6.1f} µs of CPU a review")


if __name__ == "__main__":
    main()
