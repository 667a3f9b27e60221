"""The real Prometheus scrapes a real health port, with the rules and the dashboard's queries as they are shipped."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from tests.support.events import everything_happens
from tests.unit.deploy.test_deploy_files import TENSORFLOW_SERVING, dashboard_expressions, metric_names, recorded
from worker.observability.health import Health
from worker.observability.metrics import CATALOGUE
from worker.observability.telemetry import Telemetry

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
DEADLINE_SECONDS = 60


class RealClock:
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


@pytest.fixture(scope="module")
def worker_port() -> Iterator[int]:
    """A worker's metrics port, on which everything happens a few times a second."""
    registry = CollectorRegistry()
    telemetry = Telemetry(registry, RealClock())
    health = Health("127.0.0.1", 0, registry, lambda: telemetry.stalled(60), telemetry.unready)
    port = health.start()
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.2):
            everything_happens(telemetry)

    thread = threading.Thread(target=work)
    thread.start()
    yield port
    stop.set()
    thread.join()
    health.close()


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query; raises AssertionError with Prometheus' own words."""
        question = urllib.parse.urlencode({"query": expression})
        try:
            url = f"{self.url}/api/v1/query?{question}"
            with urllib.request.urlopen(url, timeout=30) as reply:  # noqa: S310  ours, on the loopback
                answer = json.load(reply)
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{expression}: {refused.read().decode()}") from refused
        result = answer["data"]["result"]
        return result if isinstance(result, list) else [result]

    def until(self, expression: str) -> list[dict[str, Any]]:
        """Asks again until there is an answer."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (result := self.query(expression)):
            assert time.monotonic() < deadline, f"no answer to {expression}"
            time.sleep(0.25)
        return result


@pytest.fixture(scope="module")
def prometheus(worker_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("prometheus is missing: install Debian's package `prometheus`")
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    settings = yaml.safe_load((PROMETHEUS / "local.yml").read_text(encoding="utf-8"))
    settings["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    settings["rule_files"] = [str(PROMETHEUS / name) for name in settings["rule_files"]]
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{worker_port}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while True:
                try:
                    urllib.request.urlopen(f"http://{address}/-/ready", timeout=5).close()
                    break
                except OSError:
                    said = (folder / "log").read_text(encoding="utf-8")
                    assert process.poll() is None, said
                    assert time.monotonic() < deadline, said
                    time.sleep(0.1)
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_the_worker_is_scraped_and_every_metric_arrives(prometheus: Prometheus) -> None:
    prometheus.until('up{job="inferry-worker"} == 1')
    for metric in CATALOGUE:
        for name in metric.samples:
            assert prometheus.until(name), name


def test_every_query_of_the_dashboard_has_an_answer(prometheus: Prometheus) -> None:
    prometheus.until("rate(inferry_records_total[10s])")
    for template in dashboard_expressions():
        expression = template.replace("$__rate_interval", "10s").replace("$job", ".+").replace("$instance", ".+")
        if "ALERTS" in expression or metric_names(expression) & TENSORFLOW_SERVING:
            prometheus.query(expression)  # understood, but here nothing fires and no model server is scraped
        else:
            assert prometheus.until(expression), expression


def test_every_recording_rule_yields_a_value(prometheus: Prometheus) -> None:
    for name in recorded():
        assert all(float(series["value"][1]) >= 0 for series in prometheus.until(name)), name


def test_no_alert_fires_for_a_worker_that_works(prometheus: Prometheus) -> None:
    prometheus.until("job:inferry_results:rate5m")
    assert prometheus.query('ALERTS{alertstate="firing"}') == []
