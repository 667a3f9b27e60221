"""The files under deploy/ that no program of ours reads: held against the catalogue, the settings and the schemas."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.local.jars import KAFKA_VERSION
from worker.observability.metrics import CATALOGUE, OF_THE_PARENT
from worker.settings import Settings
from worker.settings import load as load_settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
KUBERNETES = DEPLOY / "kubernetes"
SCHEMAS = Path(__file__).parent / "schemas"

OURS = {name for metric in CATALOGUE for name in metric.samples}
WITH_PROCESSES = {name for metric in OF_THE_PARENT for name in metric.samples}
CLIENT = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
# tensorflow_serving/servables/tensorflow/util.cc
TENSORFLOW_SERVING = {":tensorflow:serving:request_count", ":tensorflow:serving:request_latency_bucket"}
PROMETHEUS_OWN = {"up", "ALERTS"}

PROMQL_WORDS = {
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# --- metric names ----------------------------------------------------------------------------------------------------


def metric_names(expression: str) -> set[str]:
    """The names of the series a PromQL expression reads."""
    bare = re.sub(r'"(\\.|[^"\\])*"', "", expression)  # label values
    bare = re.sub(r"\{[^}]*\}", " ", bare)  # matchers
    bare = re.sub(r"\[[^\]]*\]", " ", bare)  # ranges
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)  # label lists
    words = re.findall(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", bare)
    return set(words) - PROMQL_WORDS


def test_metric_names_are_found_in_promql() -> None:
    assert metric_names(
        'sum by (a, le) (rate(x_total{a="b_total", c=~"d|e"}[5m])) / on (job) group_left (z) (job:y:sum > 1.5e3)'
        " or time() - up unless histogram_quantile(0.9, :t:s_bucket{}) offset 5m"
    ) - {"m"} == {"x_total", "job:y:sum", "up", ":t:s_bucket"}


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in load(PROMETHEUS / name)["groups"] for rule in group["rules"]]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules("rules.yml")}


def dashboard() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/inferry.json").read_text(encoding="utf-8"))
    return parsed


def dashboard_expressions() -> Iterator[str]:
    board = dashboard()
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((.*), \w+\)", r"\1", variable["definition"])
    for annotation in board["annotations"]["list"]:
        yield annotation["expr"]


def test_rules_alerts_and_dashboard_read_only_what_is_scraped() -> None:
    expressions = [*(rule["expr"] for name in ("rules.yml", "alerts.yml") for rule in rules(name))]
    expressions += dashboard_expressions()
    assert len(expressions) > 50
    known = OURS | WITH_PROCESSES | CLIENT | TENSORFLOW_SERVING | PROMETHEUS_OWN | recorded()
    for expression in expressions:
        names = metric_names(expression)
        assert names, expression
        assert names <= known, f"{names - known} in {expression}"


def test_labels_that_are_asked_for_exist() -> None:
    for expression in [*(rule["expr"] for rule in rules("rules.yml")), *dashboard_expressions()]:
        for name, matchers in re.findall(r"(inferry_\w+)\{([^}]*)\}", expression):
            metric = next(metric for metric in CATALOGUE if name in metric.samples)
            asked = set(re.findall(r"(\w+)\s*[=!]~?\s*\"", matchers))
            assert asked <= {*metric.labels, "job", "instance", "process", "le"}, f"{asked} of {name}"


def test_every_metric_is_shown_or_watched() -> None:
    used: set[str] = set()
    for expression in [*(rule["expr"] for rule in rules("alerts.yml")), *dashboard_expressions()]:
        used |= metric_names(expression)
    unused = {metric.name for metric in CATALOGUE if not used & set(metric.samples)}
    assert unused == set(), "show it on the dashboard, or leave it out of the catalogue"


def test_every_recording_is_used() -> None:
    used = {
        name for rule in (*rules("alerts.yml"), *rules("rules.yml")) for name in metric_names(rule["expr"]) & recorded()
    }
    for_people = {"job:inferry_records:rate5m", "job:inferry_results:rate5m", "job:inferry_padding_tokens:ratio_rate5m"}
    assert recorded() == used | for_people


# --- Prometheus ------------------------------------------------------------------------------------------------------


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing: install Debian's package `prometheus`")
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "config", "local.yml"),
        ("check", "rules", "--lint=all", "--lint-fatal", "rules.yml", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_a_test_and_says_what_to_do() -> None:
    cases = [case for test in load(PROMETHEUS / "alerts_test.yml")["tests"] for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    names = [rule["alert"] for rule in rules("alerts.yml")]
    assert len(set(names)) == len(names)
    assert firing == quiet == set(names)
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}


def test_every_alert_links_to_its_section_of_the_runbook() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules("alerts.yml")]
    for rule in rules("alerts.yml"):  # as GitHub and others name the anchor of a heading
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_jobs_in_the_alerts_are_scraped() -> None:
    jobs = {job["job_name"] for job in load(PROMETHEUS / "prometheus.yml")["scrape_configs"]}
    asked = set(re.findall(r'job="([^"]+)"', (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")))
    assert asked <= jobs


# --- Grafana ---------------------------------------------------------------------------------------------------------


def panels(kind: str | None = None) -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if kind is None or panel["type"] == kind]


def test_panels_lie_on_the_grid_without_overlap_or_holes() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in taken, f"{panel['title']} lies over {taken[cell]}"
            taken[cell] = panel["title"]
    height = max(y for _, y in taken) + 1
    assert taken.keys() == set(itertools.product(range(24), range(height)))


def test_panels_are_told_apart_and_explained() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        if panel["type"] == "timeseries":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_the_data_source_and_the_workers_can_be_chosen() -> None:
    board = dashboard()
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    for panel in panels():
        for part in (panel, *panel.get("targets", ())):
            if panel["type"] != "row":
                assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board))) - {"__rate_interval", "__all"}
    assert used == variables.keys()


def test_the_board_is_provisioned_where_compose_mounts_it() -> None:
    source = load(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")["datasources"][0]
    provider = load(DEPLOY / "grafana/provisioning/dashboards/inferry.yml")["providers"][0]
    grafana = compose()["services"]["grafana"]
    assert source["url"] == "http://prometheus:9090"
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == provider["options"]["path"] + "/inferry.json"


# --- Compose ---------------------------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = load(DEPLOY / "compose/compose.yaml")
    return parsed


def test_compose_fits_the_specification() -> None:
    schema = json.loads((SCHEMAS / "compose.json").read_text(encoding="utf-8"))
    specification = jsonschema.validators.validator_for(schema)(schema)
    specification.validate(compose())
    broken = compose()
    broken["services"]["worker"]["enviroment"] = {}
    assert not specification.is_valid(broken)


def test_compose_refers_to_what_is_there() -> None:
    services = compose()["services"]
    volumes = compose()["volumes"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= services.keys(), name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            if not source.startswith("."):
                assert source in volumes, mount
            elif source != "../../models":  # made by the trainer
                assert (DEPLOY / "compose" / source).exists(), mount
        image = service["image"]
        assert image == "inferry-worker:latest" or re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", image), image
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} would be open to the network"
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_compose_makes_the_topics_the_worker_uses() -> None:
    services = compose()["services"]
    made = re.findall(r"^create (\S+)", services["topics"]["command"][0], re.MULTILINE)
    environment = services["worker"]["environment"]
    assert made == [environment[f"INFERRY_{kind}_TOPIC"] for kind in ("INPUT", "OUTPUT", "DEAD_LETTER")]


def test_the_worker_may_drain_before_compose_kills_it() -> None:
    worker = compose()["services"]["worker"]
    assert float(worker["stop_grace_period"].removesuffix("s")) > worker["environment"]["INFERRY_DRAIN_SECONDS"]


def dockerfile() -> str:
    return (DEPLOY / "compose/Dockerfile").read_text(encoding="utf-8")


def test_the_image_is_built_of_what_is_there_pinned_and_unprivileged() -> None:
    ignored = (DEPLOY / "compose/Dockerfile.dockerignore").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists() or source == "README.md", source
            assert f"!{source}" in ignored.splitlines(), f"{source} never reaches the builder"
    assert "--require-hashes" in dockerfile()
    assert "--hash=sha256:" in (ROOT / "requirements/worker.txt").read_text(encoding="utf-8")
    stages = dockerfile().split("\nFROM ")
    assert re.search(r"^USER \d+:\d+$", stages[-1], re.MULTILINE)
    assert "/livez" in stages[-1]
    assert f"EXPOSE {Settings.model_fields['metrics_port'].default}" in stages[-1]


# --- Kubernetes ------------------------------------------------------------------------------------------------------


def manifests() -> list[dict[str, Any]]:
    """Every object under deploy/kubernetes but kustomize's own files."""
    found = []
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            found += [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
    return found


def manifest(kind: str, name: str) -> dict[str, Any]:
    (found,) = [m for m in manifests() if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def worker_env() -> dict[str, str]:
    lines = (KUBERNETES / "worker.env").read_text(encoding="utf-8").split()
    return dict(line.split("=", 1) for line in lines)


def kubernetes_validators() -> dict[str, jsonschema.Draft202012Validator]:
    """By apiVersion and kind. Made directly: jsonschema.validate would check the large schema itself each time."""
    schema = json.loads((SCHEMAS / "kubernetes.json").read_text(encoding="utf-8"))
    return {
        kind: jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]})
        for kind, name in schema["roots"].items()
    }


def test_manifests_fit_the_api() -> None:
    validators = kubernetes_validators()
    of_operators = set()
    for found in manifests():
        kind = f"{found['apiVersion']} {found['kind']}"
        if kind in validators:
            validators[kind].validate(found)
        else:
            of_operators.add(kind)
    assert of_operators == {
        "keda.sh/v1alpha1 ScaledObject",
        "monitoring.coreos.com/v1 PodMonitor",
        "monitoring.coreos.com/v1 PrometheusRule",
    }


def test_the_schema_refuses_a_misspelt_field() -> None:
    broken = manifest("StatefulSet", "inferry-worker")
    broken["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    assert not kubernetes_validators()["apps/v1 StatefulSet"].is_valid(broken)


def test_kustomize_names_every_file() -> None:
    for folder in (KUBERNETES, KUBERNETES / "autoscaling", KUBERNETES / "monitoring"):
        kustomization = load(folder / "kustomization.yaml")
        generated = [
            name for one in kustomization.get("configMapGenerator", ()) for name in one.get("envs", one.get("files"))
        ]
        named = {*kustomization["resources"], *kustomization.get("components", ()), *generated, "kustomization.yaml"}
        assert {path.name for path in folder.iterdir()} == named


def test_kustomize_builds_it() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = [document for document in yaml.safe_load_all(done.stdout) if document]
    assert len(built) == len(manifests()) + 2, "all manifests and two generated ConfigMaps"
    (worker,) = [one for one in built if one["kind"] == "StatefulSet"]
    assert "replicas" not in worker["spec"], "KEDA sets them"
    assert worker["spec"]["template"]["spec"]["containers"][0]["image"] == "inferry-worker:0.1.0"


@pytest.mark.parametrize(("kind", "name"), [("StatefulSet", "inferry-worker"), ("Deployment", "tensorflow-serving")])
def test_pods_are_restricted_and_bounded(kind: str, name: str) -> None:
    pod = manifest(kind, name)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in container:
            action = container[probe].get("httpGet") or container[probe]["tcpSocket"]
            assert action["port"] in ports


def test_the_worker_keeps_its_transactional_id_and_may_drain() -> None:
    pod = manifest("StatefulSet", "inferry-worker")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    identity = next(one for one in container["env"] if one["name"] == "INFERRY_TRANSACTIONAL_ID")
    assert "$(POD_NAME)" in identity["value"]
    assert pod["terminationGracePeriodSeconds"] > float(worker_env()["INFERRY_DRAIN_SECONDS"]) + 15
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["ports"] == [{"name": "metrics", "containerPort": int(worker_env()["INFERRY_METRICS_PORT"])}]


def test_kubernetes_adds_no_settings_of_its_own() -> None:
    """A Service called inferry-worker would become INFERRY_WORKER_SERVICE_HOST, which the worker refuses to start with."""
    assert manifest("StatefulSet", "inferry-worker")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_selectors_and_policies_find_the_pods() -> None:
    labels = {
        name: manifest(kind, name)["spec"]["template"]["metadata"]["labels"]
        for kind, name in (("StatefulSet", "inferry-worker"), ("Deployment", "tensorflow-serving"))
    }
    for found in manifests():
        name, spec = found["metadata"]["name"], found.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector")
        if selector and name in labels:
            assert selector.get("matchLabels", selector) == labels[name], f"{found['kind']} {name}"
        if found["kind"] == "PodMonitor":
            assert labels[name][spec["jobLabel"]] == name
            assert name in {job["job_name"] for job in load(PROMETHEUS / "prometheus.yml")["scrape_configs"]}


def test_keda_watches_the_lag_of_the_worker() -> None:
    (trigger,) = manifest("ScaledObject", "inferry-worker")["spec"]["triggers"]
    assert trigger["metadata"]["bootstrapServers"] == worker_env()["INFERRY_BOOTSTRAP"]
    assert trigger["metadata"]["consumerGroup"] == worker_env()["INFERRY_GROUP"]
    assert trigger["metadata"]["topic"] == worker_env()["INFERRY_INPUT_TOPIC"]


def test_kubernetes_has_the_same_alerts() -> None:
    groups = [group for name in ("rules.yml", "alerts.yml") for group in load(PROMETHEUS / name)["groups"]]
    assert manifest("PrometheusRule", "inferry")["spec"]["groups"] == groups


# --- both ------------------------------------------------------------------------------------------------------------


def test_the_model_server_is_configured_alike() -> None:
    for name in ("models.config", "monitoring.config"):
        in_compose = (DEPLOY / "compose/tensorflow-serving" / name).read_text(encoding="utf-8")
        assert (KUBERNETES / name).read_text(encoding="utf-8") == in_compose
    monitored = re.search(r'path: "(.+)"', (KUBERNETES / "monitoring.config").read_text(encoding="utf-8"))
    scraped = load(PROMETHEUS / "prometheus.yml")["scrape_configs"][1]["metrics_path"]
    assert monitored is not None
    assert monitored[1] == scraped


def test_the_worker_is_configured_alike() -> None:
    in_compose = {name: str(value) for name, value in compose()["services"]["worker"]["environment"].items()}
    elsewhere = {"INFERRY_BOOTSTRAP"}
    assert in_compose.keys() == worker_env().keys()
    assert {name for name in in_compose if in_compose[name] != worker_env()[name]} == elsewhere


def test_settings_exist_and_take_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("compose", "kubernetes")
        for path in (DEPLOY / folder).rglob("*.*")
    )
    used = set(re.findall(r"^[^#\n]*?\b(INFERRY_[A-Z_]+)\b", everywhere, re.MULTILINE))
    assert "INFERRY_TRANSACTIONAL_ID" in used
    assert used <= {f"INFERRY_{name.upper()}" for name in Settings.model_fields}
    for name in [name for name in os.environ if name.startswith("INFERRY_")]:
        monkeypatch.delenv(name)
    for name, value in worker_env().items():
        monkeypatch.setenv(name, value)
    settings = load_settings([])
    assert settings.bootstrap == worker_env()["INFERRY_BOOTSTRAP"]
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    for name, value in worker_env().items():
        field = name.removeprefix("INFERRY_").lower()
        if field not in ("bootstrap", "serving", "log_format"):
            assert str(defaults[field]) == value, f"{name} is said to be the default"
