"""The one-machine stack: Kafka, the model server, the worker and, where it is installed, Prometheus."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from deploy.local.broker import JARS, Broker
from deploy.local.errors import ProcessDied
from deploy.local.models import MODEL, MODELS
from deploy.local.ports import ANY, LOOPBACK, PortChooser
from deploy.local.processes import Process
from deploy.local.running import Description

TOPICS = {
    "reviews": {"compression.type": "uncompressed"},  # no compressed bomb gets past the broker; the client has no cap
    "review-labels": {},
    "reviews-dead-letter": {},
}
"""The topics, and what of their configuration is not the default."""
PARTITIONS = 3
KAFKA_PORT, GRPC_PORT, REST_PORT, METRICS_PORT, PROMETHEUS_PORT = 9092, 8500, 8501, 9464, 9090
"""The standard ports, which the programs' own defaults and the documentation name."""
MODEL_METRICS = "/monitoring/prometheus/metrics"
"""Where the model server's metrics are on its REST port: TensorFlow Serving's own default."""
READY_SECONDS = 120
"""For a program to become ready; importing tensorflow takes most of it on a slow machine."""
STOP_SECONDS = 30
"""For a program to stop; the worker's own limit for draining is 20 s."""
PROMETHEUS_RULES = Path(__file__).parents[1] / "prometheus"

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Ports:
    """Ports to use; 0: any free one. One that is not named is the standard one, or any free one where that is taken."""

    kafka_port: int | None = None
    """Kafka; 9092."""
    grpc_port: int | None = None
    """The model server's PredictionService; 8500."""
    rest_port: int | None = None
    """The model server's REST API; 8501."""
    metrics_port: int | None = None
    """The worker's status page, /metrics, /livez and /readyz; 9464."""
    prometheus_port: int | None = None
    """Prometheus, where it is installed; 9090."""


FREE_PORTS = Ports(ANY, ANY, ANY, ANY, ANY)
"""For a stack that nobody is to find where stacks usually are."""


class Stack:
    """Everything, running. Data and logs are below `folder`; whatever was started stops with this process.

    A context manager that starts nothing by itself and stops everything at the end. One thread."""

    STEPS = ("Kafka", "model server", "worker", "Prometheus")

    def __init__(self, folder: Path, *, ports: Ports = Ports(), models: Path = MODELS, jars: Path = JARS) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.broker = Broker(folder / "data" / "kafka", jars=jars, log=self.logs / "kafka.log")
        self._ports = ports
        self._chooser = PortChooser()
        self._models = models
        self._started: list[Process] = []
        self.where = Description(bootstrap="", notes=self._chooser.notes)

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, on_step: OnStep = lambda _: None) -> None:
        """Starts every program and blocks until each is ready; `on_step` is told what begins.

        Raises LocalError; what was started by then is still to be stopped."""
        for log in self.logs.glob("*.log"):
            log.unlink()
        on_step("model server")
        wait_for_model_server = self._start_model_server()  # imports tensorflow while Kafka boots
        on_step("Kafka")
        self.start_kafka()
        on_step("model server")
        wait_for_model_server()
        on_step("worker")
        self._start_worker()
        if shutil.which("prometheus"):
            on_step("Prometheus")
            self._start_prometheus()

    def start_kafka(self) -> None:
        """Starts Kafka alone and creates the topics that are missing."""
        self.broker.port = self._chooser.choose(self._ports.kafka_port, KAFKA_PORT, "Kafka")
        self.broker.start()
        self._started.insert(0, self.broker.process)
        self.where.bootstrap = self.broker.bootstrap
        self.where.pids["Kafka"] = self.broker.pid
        create_topics(self.broker.bootstrap)

    def check(self) -> None:
        """Raises ProcessDied when a program has ended by itself."""
        for process in self._started:
            if process.exit_code is not None:
                raise ProcessDied(process.obituary())

    def stop(self) -> None:
        """Stops the programs in the reverse order: the worker finishes what it has while Kafka is there. Idempotent."""
        for process in reversed(self._started):
            process.stop(STOP_SECONDS)
        self._started.clear()
        self.broker.stop()
        self._chooser.release()

    def _start_model_server(self) -> Callable[[], None]:
        """Starts it and returns the wait for its model."""
        grpc = self._chooser.choose(self._ports.grpc_port, GRPC_PORT, "the model server's gRPC API")
        rest = self._chooser.choose(self._ports.rest_port, REST_PORT, "the model server's REST API")
        self.folder.mkdir(parents=True, exist_ok=True)
        monitoring = self.folder / "monitoring.config"
        monitoring.write_text(f'prometheus_config {{ enable: true, path: "{MODEL_METRICS}" }}\n')
        process = self._program(
            "model server",
            "deploy.local.model_server",
            *("--port", grpc, "--rest_api_port", rest, "--model_name", MODEL),
            *("--model_base_path", str((self._models / MODEL).absolute())),
            *("--monitoring_config_file", str(monitoring)),
        )
        self.where.grpc, self.where.rest = f"{LOOPBACK}:{grpc}", f"http://{LOOPBACK}:{rest}"

        def wait() -> None:
            process.wait_until(lambda: "AVAILABLE" in (get(rest, f"/v1/models/{MODEL}") or ""), READY_SECONDS)

        return wait

    def _start_worker(self) -> None:
        port = self._chooser.choose(self._ports.metrics_port, METRICS_PORT, "the worker's metrics")
        process = self._program(
            "worker",
            "worker",
            *("run", "--bootstrap", self.where.bootstrap, "--serving", self.where.grpc, "--model", MODEL),
            *("--metrics-host", LOOPBACK, "--metrics-port", port),
        )
        process.wait_until(lambda: get(port, "/readyz") is not None, READY_SECONDS)
        self.where.status = f"http://{LOOPBACK}:{port}/"
        self.where.metrics = f"{self.where.status}metrics"

    def _start_prometheus(self) -> None:
        port = self._chooser.choose(self._ports.prometheus_port, PROMETHEUS_PORT, "Prometheus")
        scraped = [
            _scraped("inferry-worker", self.where.metrics),
            _scraped("tensorflow-serving", self.where.rest + MODEL_METRICS),
        ]
        rules = [str(PROMETHEUS_RULES / name) for name in ("rules.yml", "alerts.yml")]
        config = self.folder / "prometheus.yml"  # JSON is YAML
        config.write_text(
            json.dumps({"global": {"scrape_interval": "5s"}, "rule_files": rules, "scrape_configs": scraped})
        )
        process = self._run(
            "Prometheus",
            shutil.which("prometheus") or "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / 'data' / 'prometheus'}",
            f"--web.listen-address={LOOPBACK}:{port}",
            "--log.level=warn",
        )
        process.wait_until(lambda: get(port, "/-/ready") is not None, READY_SECONDS)
        self.where.prometheus = f"http://{LOOPBACK}:{port}"

    def _program(self, name: str, module: str, *arguments: str | int) -> Process:
        """Starts one of our own modules with this very Python."""
        return self._run(name, sys.executable, "-m", module, *arguments)

    def _run(self, name: str, *command: str | int) -> Process:
        log = self.logs / f"{name.lower().replace(' ', '-')}.log"
        process = Process(name, [str(part) for part in command], log)
        self._started.append(process)
        self.where.pids[name] = process.pid
        return process


def create_topics(bootstrap: str) -> None:
    """Creates the three topics where they are missing."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        missing = TOPICS.keys() - set(admin.list_topics())
        wanted = {
            topic: {"num_partitions": PARTITIONS, "replication_factor": 1, "configs": TOPICS[topic]}
            for topic in missing
        }
        if wanted:
            admin.create_topics(wanted, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        pass  # somebody else was quicker
    finally:
        admin.close()


def get(port: int, path: str) -> str | None:
    """The body of a 200 answer to one HTTP GET on this machine; None for anything else."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status == http.HTTPStatus.OK:
            return answer.read().decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException):
        pass  # not there, or not ready to speak
    finally:
        connection.close()
    return None


def _scraped(job: str, url: str) -> dict[str, object]:
    """Prometheus' configuration of one job with one target."""
    parts = urlsplit(url)
    return {"job_name": job, "metrics_path": parts.path, "static_configs": [{"targets": [parts.netloc]}]}
