"""The model server's metrics are those of TensorFlow Serving, as far as the dashboard asks for them."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.model_server.exits import Exit, StartError
from deploy.local.model_server.monitoring import Monitoring
from deploy.local.model_server.option_files import monitoring_path
from deploy.local.model_server.status import StatusError, invalid_argument
from tests.unit.deploy.test_deploy_files import DEPLOY, dashboard_expressions, metric_names


class Clock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def ask(monitoring: Monitoring, clock: Clock, took_seconds: float, error: StatusError | None = None) -> None:
    with contextlib.suppress(StatusError), monitoring.request("m", "Predict", "GRPC"):
        clock.seconds += took_seconds
        if error:
            raise error


def families(monitoring: Monitoring) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(monitoring.page())}


def test_every_series_and_label_the_dashboard_asks_for_is_there() -> None:
    monitoring = Monitoring()
    with monitoring.request("m", "Predict", "GRPC"):
        pass
    lines = [line for line in monitoring.page().splitlines() if not line.startswith("#")]
    labels = {line.partition("{")[0]: set(re.findall(r'(\w+)="', line)) for line in lines}
    asked = [expression for expression in dashboard_expressions() if ":tensorflow:" in expression]
    assert len(asked) >= 3
    for expression in asked:
        (name,) = metric_names(expression)
        by = ",".join(re.findall(r"by \(([^)]*)\)", expression))
        assert {label.strip() for label in by.split(",")} <= labels[name], expression


def test_requests_are_counted_by_status_and_timed_when_they_succeed() -> None:
    clock = Clock()
    monitoring = Monitoring(clock)
    for took in (0.000_005, 0.000_009, 0.002, 7200.0):
        ask(monitoring, clock, took)
    ask(monitoring, clock, 1.0, invalid_argument("no"))
    found = families(monitoring)
    counts = {sample.labels["status"]: sample.value for sample in found[":tensorflow:serving:request_count"].samples}
    assert counts == {"OK": 4, "INVALID_ARGUMENT": 1}
    latency = found[":tensorflow:serving:request_latency"]
    assert {(s.labels["model_name"], s.labels["API"], s.labels["entrypoint"]) for s in latency.samples} == {
        ("m", "Predict", "GRPC")
    }
    buckets = {sample.labels["le"]: sample.value for sample in latency.samples if sample.name.endswith("_bucket")}
    assert list(buckets)[:3] == ["10", "18", "32.4"]  # monitoring::Buckets::Exponential(10, 1.8, 33)
    assert len(buckets) == 34
    assert list(buckets.values())[:2] + list(buckets.values())[-2:] == [2, 2, 3, 4]
    totals = {sample.name.rpartition("_")[2]: sample.value for sample in latency.samples}
    assert (totals["count"], totals["sum"]) == (4, pytest.approx(7200.002015e6))


def test_an_error_of_our_own_is_counted_too() -> None:
    monitoring = Monitoring()
    with pytest.raises(KeyError), monitoring.request("m", "Predict", "GRPC"):
        raise KeyError
    assert 'status="INTERNAL"} 1' in monitoring.page()


def test_a_model_name_cannot_break_the_page() -> None:
    monitoring = Monitoring()
    name = 'a"b\\c\nd'
    with monitoring.request(name, "predict", "REST"):
        pass
    (sample,) = families(monitoring)[":tensorflow:serving:request_count"].samples
    assert sample.labels["model_name"] == name


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true, path: "/m" }', "/m"),
        ('prometheus_config { path: "/m" }', None),
        ("", None),
    ],
)
def test_the_monitoring_config_says_where(text: str, path: str | None, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(text)
    assert monitoring_path(tmp_path / "config") == path


@pytest.mark.parametrize("folder", ["kubernetes", "compose/tensorflow-serving"])
def test_the_monitoring_configs_of_the_other_deployments_are_read(folder: str) -> None:
    assert monitoring_path(DEPLOY / folder / "monitoring.config") == "/monitoring/prometheus/metrics"


def test_a_monitoring_config_that_is_none_is_one_sentence_and_a_code(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot read --monitoring_config_file .*: No such file") as missing:
        monitoring_path(tmp_path / "config")
    (tmp_path / "config").write_text("prometheus { }")
    with pytest.raises(StartError, match="is not a MonitoringConfig in text form") as other:
        monitoring_path(tmp_path / "config")
    assert missing.value.code == other.value.code == Exit.CONFIG
