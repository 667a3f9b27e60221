"""What a running worker tells of itself: every series that rules, alerts and dashboard read, with the right figures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.proxy import Mode, Proxy
from tests.integration.conftest import MakeWorld
from tests.support.harness import review_json, wait_for
from tests.support.model_server import ServerAddress
from tests.support.models import TinyModel
from tests.support.worker_world import World, delivered, logged, some_reviews, state, total
from tests.unit.deploy.test_deploy_files import CLIENT, OURS, dashboard_expressions, metric_names, rules
from worker.observability.metrics import CATALOGUE

READABLE, UNREADABLE = 61, 3


@pytest.fixture
def door(model_server: ServerAddress) -> Iterator[Proxy]:
    """Stands before the shared model server and can be shut."""
    host, port = model_server.grpc_target.split(":")
    proxy = Proxy((host, int(port)))
    yield proxy
    proxy.close()


def test_a_scrape_of_a_running_worker_carries_every_series_with_the_right_figures(
    make_world: MakeWorld, door: Proxy, tiny_model: TinyModel
) -> None:
    world = make_world(serving=door.address)
    door.mode = Mode.REFUSE
    worker = world.worker(window_records=16, batch_rows=8, max_tokens=100)
    wait_for(lambda: logged(worker, "trying again"), 30, "the first failed attempt")
    assert state(worker) == "starting"
    door.mode = Mode.OPEN
    worker.wait_ready()
    long = " ".join(["good"] * 200)
    texts = [*some_reviews(READABLE - 1), long]
    world.push([*map(review_json, texts), *[b"\xff"] * UNREADABLE])
    world.assert_each_once()
    wait_for(lambda: delivered(worker) == READABLE, 30, "its own account of it")
    wait_for(lambda: total(worker, "inferry_lag_records") == 0, 30, "no lag")
    metrics = worker.metrics()
    names = {name.split("{")[0] for name in metrics}
    for metric in CATALOGUE:
        assert set(metric.samples) <= names, metric.name
    for expression in [
        *(r["expr"] for file in ("rules.yml", "alerts.yml") for r in rules(file)),
        *dashboard_expressions(),
    ]:
        assert metric_names(expression) & (OURS | CLIENT) <= names, expression

    inputs = world.inputs()
    records = READABLE + UNREADABLE
    assert metrics["inferry_records_total"] == records == len(inputs)
    assert metrics["inferry_record_bytes_total"] == sum(len(record.value or b"") for record in inputs.values())
    assert metrics["inferry_window_records_sum"] == records
    assert metrics["inferry_window_records_count"] == metrics['inferry_stage_duration_seconds_count{stage="deliver"}']
    assert metrics["inferry_end_to_end_latency_seconds_count"] == records
    assert metrics["inferry_batch_rows_sum"] == READABLE
    assert metrics["inferry_batch_rows_count"] == metrics['inferry_predict_duration_seconds_count{status="OK"}']
    assert metrics["inferry_reviews_truncated_total"] == sum(result.truncated for result in world.results()) > 0
    assert metrics['inferry_tokens_total{kind="real"}'] == sum(result.tokens for result in world.results())
    labels = [result.label for result in world.results()]
    for label in ("negative", "positive"):
        assert metrics[f'inferry_results_total{{label="{label}"}}'] == labels.count(label) > 0
    assert metrics['inferry_dead_letters_total{reason="not-utf8"}'] == UNREADABLE
    assert metrics['inferry_retries_total{status="ServingUnavailable",what="start"}'] > 0
    assert metrics["inferry_windows_in_flight"] == metrics["inferry_requests_in_flight"] == 0
    assert metrics["inferry_model_available"] == 1
    info = f'digest="{tiny_model.card.digest}",model="sentiment_classifier",version="1"'
    assert metrics[f"inferry_model_info{{{info}}}"] == 1


def test_probes_and_pages_of_the_port(world: World) -> None:
    worker = world.worker().wait_ready()
    assert worker.get("/livez") == (200, "ok\n")
    assert worker.get("/readyz") == (200, "ok\n")
    status, told = worker.get("/no-such-page")
    assert status == 404
    assert "/metrics, /livez, /readyz, /, /status.json, /readme" in told


def test_what_waits_behind_an_outage_is_told_as_lag(make_world: MakeWorld, door: Proxy) -> None:
    world = make_world(serving=door.address, partitions=1)
    worker = world.worker(window_records=10, max_windows=2).wait_ready()
    door.mode = Mode.REFUSE
    world.push(map(review_json, some_reviews(200)))
    wait_for(lambda: state(worker) == "holding", 30, "the worker's notice")
    wait_for(lambda: total(worker, "inferry_lag_records") > 0, 30, "lag")
    assert total(worker, "inferry_windows_in_flight") <= 3, "what is in flight is bounded, whatever waits"
    assert worker.metrics()['inferry_state{state="holding"}'] == 1
    door.mode = Mode.OPEN
    world.assert_each_once()
    wait_for(lambda: total(worker, "inferry_lag_records") == 0, 30, "no lag")
    wait_for(lambda: state(worker) == "running", 30, "the worker's notice")
    assert world.dead_letters() == {}
