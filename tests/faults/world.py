"""Everything a fault run needs, real and its own: broker, model server, workers, and proxies between them."""

from __future__ import annotations

import itertools
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from deploy.local.broker import JARS, Broker
from deploy.local.ports import LOOPBACK, free_port, free_ports
from deploy.local.processes import Process
from tests.conftest import create_topics
from tests.faults.checker import Expect, Report, Topics, check_topics
from tests.faults.faulty_server import FaultyServer, Mood
from tests.faults.proxy import Proxy
from tests.faults.reviews import POISON
from tests.faults.slots import PROGRAM, SETTINGS, History, Slot, make_slot
from tests.support.harness import WORKER, WorkerProcess, wait_for
from tests.support.models import TinyModel, export_tiny

GROUP = "faults"
MODEL = "sentiment_classifier"
BROKER_SETTINGS = {
    "group.min.session.timeout.ms": "1000",
    # The same for KIP-848's groups, whose sessions are the broker's to set: as long as the workers' (see slots), not 45 s.
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "2000",
    # How often the broker looks for transactions that timed out (default 10 s).
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}
START_SECONDS = 90


class Models:
    """Two small models, served in turn as versions 1, 2, 3, …: odd versions are the one, even versions the other.

    They differ in weights and in the order of the vocabulary, so that ids of one mean something else to the other."""

    def __init__(self, folder: Path) -> None:
        self._store = folder / "store"
        self.base_path = folder / MODEL
        exported = {
            version: export_tiny(self._store, version=version, seed=version, texts=[POISON]) for version in (1, 2)
        }
        self.by_remainder: Sequence[TinyModel] = (exported[2], exported[1])
        self.newest = 0
        self.base_path.mkdir()
        self.swap()

    def swap(self) -> int:
        """The next version takes the place of the newest."""
        before, self.newest = self.newest, self.newest + 1
        staged = self.base_path.with_name("staged")
        shutil.copytree(self.by_remainder[self.newest % 2].path, staged)
        staged.rename(self.base_path / str(self.newest))
        if before:
            shutil.rmtree(self.base_path / str(before))
        return self.newest

    def poison(self) -> Mapping[int, int]:
        """The id of the poisonous word by version."""
        by_remainder = [1 + model.vocabulary.subwords.index(f"{POISON}_") for model in self.by_remainder]
        return {version: by_remainder[version % 2] for version in range(1, 1_000)}


class World:
    """A context: entering starts everything, leaving stops it. `settings` are the workers' beyond the short limits;
    `partitions` of reviews, and of labels and dead letters."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        spare: int = 1,
        partitions: tuple[int, int] = (3, 3),
        settings: Mapping[str, object] | None = None,
        broker_settings: Mapping[str, str] | None = None,
        jars: Path = JARS,
    ) -> None:
        self.folder = folder
        self.partitions = partitions
        self.models = Models(folder)
        self.history = History(folder / "history.jsonl")
        self.slots: list[Slot] = []
        self.spares: list[Slot] = []
        """Slots whose worker is not started by itself."""
        self._names = [f"worker-{n}" for n in range(workers + spare)]
        self._workers = workers
        self._settings = dict(settings or {})
        self._broker_settings = dict(broker_settings or {})
        self._jars = jars
        self._closing = ExitStack()
        self._model_port = free_port()
        self._model_process: Process | None = None
        self.broker_lock = threading.RLock()
        """Held by whoever stops or starts the broker."""

    def __enter__(self) -> World:
        try:
            self._start()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def _start(self) -> None:
        self._closing.callback(self.history.close)
        self.start_model_server(wait=False)
        self._closing.callback(self.kill_model_server)
        proxies = self._start_broker()
        self._create_topics()
        self.wait_for_model_server()
        self.server = FaultyServer(f"{LOOPBACK}:{self._model_port}")
        self.server.poison = self.models.poison()
        self._closing.callback(self.server.close)
        settings = {
            "group": GROUP,
            "input_topic": self.topics.reviews,
            "output_topic": self.topics.labels,
            "dead_letter_topic": self.topics.dead,
            "model": MODEL,
            **self._settings,
        }
        for name, proxy in zip(self._names, proxies, strict=True):
            slot = make_slot(name, settings, proxy, (LOOPBACK, self.server.port), self.folder, self.history)
            (self.slots if len(self.slots) < self._workers else self.spares).append(slot)
            self._closing.callback(slot.close)

    def start_workers(self, *overrides: Mapping[str, object]) -> None:
        """`overrides`: settings for this time only, of one slot after the other."""
        for slot, own in itertools.zip_longest(self.slots, overrides):
            slot.start(own)
        for slot in self.slots:
            slot.process.wait_ready()

    def fresh_topics(self, *, partitions: int = 3, **label_settings: str) -> Topics:
        """Topics and a group that no worker of a slot knows. `label_settings` are the results' topic's own."""
        reviews, labels, dead = create_topics(self.broker.bootstrap, partitions=partitions)
        if label_settings:
            self.configure(labels, **label_settings)
        return Topics(self.broker.bootstrap, f"group-of-{reviews}", reviews, labels, dead)

    def configure(self, topic: str, **settings: str) -> None:
        """Sets a topic's own settings, by Kafka's names with underscores."""
        configs = {name.replace("_", "."): value for name, value in settings.items()}
        admin = self.admin()
        try:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
        finally:
            admin.close()

    def worker(self, topics: Topics, name: str, *, arms: Path | None = None, **settings: object) -> WorkerProcess:
        """A plain worker on topics of its own, straight to the broker and to the model server's front. `arms`: the file
        through which a step of it can be made to strike (see worker_with_faults)."""
        own = {
            **SETTINGS,
            "bootstrap": topics.bootstrap,
            "serving": f"{LOOPBACK}:{self.server.port}",
            "group": topics.group,
            "input_topic": topics.reviews,
            "output_topic": topics.labels,
            "dead_letter_topic": topics.dead,
            "transactional_id": f"{topics.group}.{name}",
            **settings,
        }
        program = WORKER if arms is None else (*PROGRAM, str(arms), "run")
        return WorkerProcess(own, self.folder / f"{topics.group}-{name}.log", program=program)

    # --- the broker ----------------------------------------------------------------------------------------------

    def _start_broker(self) -> list[Proxy]:
        """A broker with a listener for each slot, advertised at that slot's proxy; PLAINTEXT stays direct."""
        port, controller, *others = free_ports(2 + len(self._names))
        behind = {f"W{n}": number for n, number in enumerate(others)}
        proxies = [Proxy((LOOPBACK, number)) for number in behind.values()]
        direct = f"PLAINTEXT://{LOOPBACK}:{port}"
        listeners = [f"{name}://{LOOPBACK}:{number}" for name, number in behind.items()]
        advertised = [f"{name}://{proxy.address}" for name, proxy in zip(behind, proxies, strict=True)]
        protocols = [f"{name}:PLAINTEXT" for name in ("CONTROLLER", "PLAINTEXT", *behind)]
        overrides = {
            **BROKER_SETTINGS,
            "listeners": ",".join([direct, *listeners, f"CONTROLLER://{LOOPBACK}:{controller}"]),
            "advertised.listeners": ",".join([direct, *advertised]),
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "listener.security.protocol.map": ",".join(protocols),
            **self._broker_settings,
        }
        self.broker = Broker(self.folder / "kafka", port, overrides, jars=self._jars)
        self._closing.callback(self.broker.stop)
        self.broker.start()
        return proxies

    def _create_topics(self) -> None:
        [reviews] = create_topics(self.broker.bootstrap, "reviews", partitions=self.partitions[0])
        labels, dead = create_topics(self.broker.bootstrap, "labels", "dead-letters", partitions=self.partitions[1])
        self.topics = Topics(self.broker.bootstrap, GROUP, reviews, labels, dead)

    def admin(self) -> KafkaAdminClient:
        """To be closed by the caller."""
        return KafkaAdminClient(bootstrap_servers=self.broker.bootstrap)

    def heal_broker(self) -> None:
        with self.broker_lock:
            if self.broker.running:
                self.broker.resume()
            self.broker.start()

    # --- the model server ----------------------------------------------------------------------------------------

    @property
    def model_process(self) -> Process:
        assert self._model_process is not None, "the model server was not started"
        return self._model_process

    def start_model_server(self, *, wait: bool = True) -> None:
        """Does nothing when it runs."""
        if self._model_process is None or self._model_process.exit_code is not None:
            command = [
                sys.executable,
                "-m",
                "deploy.local.model_server",
                f"--port={self._model_port}",
                "--rest_api_port=0",
            ]
            command += [f"--model_name={MODEL}", f"--model_base_path={self.models.base_path}"]
            command += ["--file_system_poll_wait_seconds=0.2"]
            self._model_log = self.folder / "model-server.log"
            self._model_log.unlink(missing_ok=True)
            self._model_process = Process("model server", command, self._model_log)
        if wait:
            self.wait_for_model_server()

    def wait_for_model_server(self) -> None:
        wait_for(lambda: "ready" in self._model_log.read_text(errors="replace"), START_SECONDS, "the model server")

    def kill_model_server(self) -> None:
        """SIGKILL."""
        self.model_process.kill()

    # --- the end -------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Undoes every fault: from now on all is well again."""
        self.heal_broker()
        self.start_model_server()
        self.server.mood = Mood.WELL
        for slot in self.slots:
            slot.heal()
        for spare in self.spares:
            spare.kafka.mode = spare.serving.mode = spare.kafka.mode.OPEN

    def stop_workers(self) -> None:
        for slot in (*self.slots, *self.spares):
            slot.stop()

    def opinions(self) -> str:
        """What each worker thinks of itself, for whoever must find out why nothing moves. Also kept in `opinions.txt`."""
        told = "\n".join(slot.opinion() for slot in self.slots)
        (self.folder / "opinions.txt").write_text(told)
        return told

    def check(self, expect: Expect) -> Report:
        """The judgement on the topics as they are now."""
        return check_topics(self.topics, expect, history=self.history.path)
