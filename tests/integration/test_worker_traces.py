"""A review's trace through a worker, Kafka, and a model server that is away at first, as the collector has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protos.codecs import ReviewMessage, decode_result, encode_review
from tests.faults.proxy import Mode, Proxy
from tests.integration.conftest import MakeWorld
from tests.support.harness import read_committed, wait_for
from tests.support.model_server import ServerAddress
from tests.support.otlp import PRODUCER_SPAN, TRACE, Collector, traceparent
from tests.support.worker_world import logged, total
from worker.records import Record

DEAD_TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture
def proxy(model_server: ServerAddress) -> Iterator[Proxy]:
    host, _, port = model_server.grpc_target.rpartition(":")
    proxy = Proxy((host, int(port)))
    yield proxy
    proxy.close()


def context_of(record: Record) -> dict[str, bytes]:
    return {name: value for name, value in record.headers if name in ("traceparent", "tracestate", "tenant")}


def test_a_trace_is_whole_from_producer_to_result_and_dead_letter_through_a_retry(
    make_world: MakeWorld, proxy: Proxy, collector: Collector
) -> None:
    world = make_world(serving=proxy.address, partitions=1)
    settings = {
        "pass_headers": "tenant",
        "pass_attributes": "country",
        "model_poll_seconds": 3_600,
        "dead_letter_share": 1,
    }
    worker = world.worker(collector.environment, **settings).wait_ready()
    proxy.mode = Mode.REFUSE
    headers = [("tracestate", b"vendor=1"), ("tenant", b"7")]
    review = ReviewMessage("", "a good film", {"country": "FR", "secret": "x"})
    world.push([encode_review(review)], headers=[("traceparent", traceparent()), *headers])
    wait_for(lambda: total(worker, "inferry_retries_total") > 0, 60, "a retry")
    proxy.mode = Mode.OPEN
    world.push([b"\xff"], headers=[("traceparent", traceparent(DEAD_TRACE)), *headers])
    world.assert_each_once()
    assert worker.stop() == 0, "what is recorded is handed over at the end"

    by_trace = {span.trace: span for span in collector.named("process") if span.parent}
    scored, dead = by_trace[TRACE], by_trace[DEAD_TRACE]
    assert (scored.parent, dead.parent) == (PRODUCER_SPAN, PRODUCER_SPAN)
    assert dead.attributes["inferry.dead_letter.reason"] == "not-utf8"

    # Whoever reads the answer goes on below the worker's span.
    [result] = read_committed(world.bootstrap, world.labels)
    assert context_of(result) == {"traceparent": scored.traceparent, "tracestate": b"vendor=1", "tenant": b"7"}
    assert decode_result(result.value, result.headers).attributes == {"country": "FR"}
    [letter] = read_committed(world.bootstrap, world.dead)
    assert context_of(letter) == {"traceparent": dead.traceparent, "tracestate": b"vendor=1", "tenant": b"7"}

    # The review's span points at its window, which has the call that failed and the one that was answered.
    [window] = [span for span in collector.named("process") if [(span.trace, span.span)] == scored.links]
    assert window.links == [(TRACE, PRODUCER_SPAN)]
    assert "retry" in [name for name, _ in window.events]
    calls = [span for span in collector.named("tensorflow.serving") if span.parent == window.span]
    assert [call.failed for call in calls].count(False) == 1
    assert any(call.attributes.get("error.type") == "UNAVAILABLE" for call in calls)
    assert {line["trace_id"] for line in logged(worker, "trying again") if line["what"] == "predict"} == {window.trace}
