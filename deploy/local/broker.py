"""One real Apache Kafka broker (KRaft, combined mode) on the loopback address, for one machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from deploy.local.errors import DiskFull, ProcessDied
from deploy.local.jars import ensure_jars
from deploy.local.java import find_java
from deploy.local.ports import LOOPBACK, accepts, free_port, free_ports, require_free
from deploy.local.processes import Process

JARS = Path(".inferry/kafka")
START_SECONDS = 60
STOP_SECONDS = 20
FREE_BYTES = 512 * 1024**2
"""Kafka ends itself when its disk is full, so less than this at the start is refused."""
NODE_ID = 1
CLUSTER_ID = "aW5mZXJyeS1sb2NhbC0xMA"
"""Any 16 bytes in base64; these read `inferry-local-10`."""

JVM_OPTIONS = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",  # smallest footprint; the heap is small
    "-XX:TieredStopAtLevel=1",  # boots in about half the time; the JVM never runs long enough for more to pay
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dlog4j2.level=WARN",  # of log4j's built-in configuration, which prints to stdout
    "-Dlog4j2.statusLoggerLevel=OFF",  # it would announce that it uses the built-in one
)

_PROTOCOLS = "listener.security.protocol.map"
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": str(NODE_ID),
    "controller.listener.names": "CONTROLLER",
    _PROTOCOLS: "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # One broker cannot hold more than one copy, and needs few partitions of the internal topics.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "3",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # A small heap: the log cleaner alone would take 128 MiB.
    "log.cleaner.dedupe.buffer.size": str(8 * 1024**2),
    # After a crash the controller waits this long before it takes the same broker back (default 9 s).
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
}


class Broker:
    """A broker with its data in `data_dir`, which outlives it: the same folder and port bring the topics back.

    `port=None` takes a free one at the first start and keeps it. `overrides` are broker settings by Kafka's own
    names and win over ours. `listeners` are further ones by their names (capitals) and security protocols, each at a free
    port: see `address`. `scram_users` are made at the first start: users and passwords. `jars` is where Kafka's jars are
    kept. Start and stop are not thread-safe."""

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        overrides: Mapping[str, str] | None = None,
        jars: Path = JARS,
        log: Path | None = None,
        *,
        listeners: Mapping[str, str] | None = None,
        scram_users: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.log = log or data_dir / "broker.log"
        self._overrides = dict(overrides or {})
        self._jars = jars
        self._listeners = dict(listeners or {})
        self._listener_ports: dict[str, int] = {}
        self._scram_users = dict(scram_users or {})
        self._process: Process | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients. Known after the first start, or from the beginning where a port was named."""
        if self.port is None:
            raise ProcessDied("The broker has no address yet: it was not started.")
        return f"{LOOPBACK}:{self.port}"

    def address(self, listener: str, host: str = LOOPBACK) -> str:
        """`host:port` of one of `listeners`. Known after the first start."""
        return f"{host}:{self._listener_ports[listener]}"

    @property
    def process(self) -> Process:
        """The broker's process; raises ProcessDied when it was never started or has been stopped."""
        if self._process is None:
            raise ProcessDied("The broker is not running.")
        return self._process

    @property
    def pid(self) -> int:
        """The process id of the broker's JVM."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.exit_code is None

    def start(self) -> str:
        """Starts the broker, blocks until it answers clients, and returns `bootstrap`. Does nothing when it runs.

        Raises PortTaken, MissingPrerequisite, NoNetwork, Damaged, DiskFull or ProcessDied."""
        if self.running:
            return self.bootstrap
        self.port = self._choose_ports()
        require_free(self.port, "Kafka")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._require_room()
        classpath = ":".join(str(jar) for jar in ensure_jars(self._jars))
        java = [str(find_java()), *JVM_OPTIONS, "-cp", classpath]
        settings = self._write_settings()
        self._format(java, settings)
        self._process = Process("Kafka", [*java, "kafka.Kafka", settings], self.log)
        try:
            self._process.wait_until(self._answers, START_SECONDS)
        except ProcessDied:
            self.kill()  # it would hold port and folder against the next start
            raise
        return self.bootstrap

    def stop(self) -> None:
        """SIGTERM, then waits until the broker has gone (SIGKILL after 20 s). Idempotent."""
        if self._process is not None:
            self._process.stop(STOP_SECONDS)
            self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> str:
        """Stops and starts it with the same data and port."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and says nothing, as a machine that hangs."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.signal(signal.SIGCONT)

    def _choose_ports(self) -> int:
        """Chooses those that were not given or chosen before, all at once, since they have to differ; returns the first."""
        missing = [listener for listener in self._listeners if listener not in self._listener_ports]
        port, *others = free_ports(1 + len(missing))
        self._listener_ports |= dict(zip(missing, others, strict=True))
        return self.port or port

    def _require_room(self) -> None:
        free = shutil.disk_usage(self.data_dir).free
        if free < FREE_BYTES:
            raise DiskFull(
                f"Only {free / 1024**2:.0f} MiB are free on the disk of {self.data_dir}; Kafka wants at least "
                f"{FREE_BYTES // 1024**2} MiB. Make room there, or use another folder."
            )

    def _write_settings(self) -> Path:
        """The broker's properties file. The controller's port may differ from start to start: only it reads it."""
        controller = f"{LOOPBACK}:{free_port()}"
        ours = [f"PLAINTEXT://{self.bootstrap}", *(f"{name}://{self.address(name)}" for name in self._listeners)]
        protocols = [SETTINGS[_PROTOCOLS], *(f"{name}:{protocol}" for name, protocol in self._listeners.items())]
        settings = {
            **SETTINGS,
            _PROTOCOLS: ",".join(protocols),
            "log.dirs": str((self.data_dir / "topics").absolute()),
            "listeners": ",".join([*ours, f"CONTROLLER://{controller}"]),
            "advertised.listeners": ",".join(ours),
            "controller.quorum.voters": f"{NODE_ID}@{controller}",
            **self._overrides,
        }
        path = self.data_dir / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
        return path

    def _format(self, java: list[str], settings: Path) -> None:
        """Kafka's own tool gives an empty folder its cluster id and the metadata version to begin with."""
        if (self.data_dir / "topics" / "meta.properties").exists():
            return
        command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(settings)]
        for user, password in self._scram_users.items():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                command += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ProcessDied(f"Kafka could not format {self.data_dir}: {(done.stderr or done.stdout).strip()}")

    def _answers(self) -> bool:
        """Whether a client gets the broker's metadata. The plain connection comes first because it is cheap."""
        if self.port is None or not accepts(self.port):
            return False
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000)
            try:
                return bool(admin.describe_cluster()["brokers"])
            finally:
                admin.close()
        except KafkaError:
            return False
