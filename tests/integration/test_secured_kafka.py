"""A Kafka that asks who is there: each way to prove it, for the worker and for everything at a terminal; and what is said
where it fails. One broker with a listener for each case; certificates are made here."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.broker import Broker
from tests.integration.conftest import MakeWorld
from tests.support.certificates import Authority, Issued
from tests.support.harness import WorkerProcess
from tests.support.worker_world import World
from worker.clock import SystemClock
from worker.kafka.driver import TlsRefused
from worker.kafka.drivers import DEFAULT, MAKERS
from worker.kafka.drivers.librdkafka.admin import Admin
from worker.settings import Settings

CANARY = "canary-7Qx"
"""Every secret here holds it; it must be found nowhere."""
LISTENERS = {
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "SASL": "SASL_SSL",
    "EXPIRED": "SSL",
    "ELSEWHERE": "SSL",
    "NAMED": "SSL",
}
PLAIN_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"
OAUTH_MODULE = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"


@dataclass(frozen=True)
class Secured:
    """The broker, and what its clients need."""

    broker: Broker
    authority: Authority
    client: Issued
    """Its key is encrypted with the canary."""
    stranger: Issued
    """Of an authority that the broker does not know."""
    folder: Path

    def settings(self, way: str) -> dict[str, str]:
        """The settings of one way in, by their names."""
        tls = {"bootstrap": self.broker.address("TLS"), "kafka_security_protocol": "SSL"}
        tls["kafka_ssl_cafile"] = str(self.authority.certificate)
        if way == "TLS":
            return tls
        if way == "mutual TLS":
            return tls | {
                "bootstrap": self.broker.address("MUTUAL"),
                "kafka_ssl_certfile": str(self.client.certificate),
                "kafka_ssl_keyfile": str(self.client.key),
                "kafka_ssl_key_password_file": str(self.folder / "password"),
            }
        sasl = tls | {"bootstrap": self.broker.address("SASL"), "kafka_security_protocol": "SASL_SSL"}
        if way == "OAUTHBEARER file":
            return sasl | {"kafka_sasl_mechanism": "OAUTHBEARER", "kafka_oauth_token_file": str(self.folder / "token")}
        if way == "OAUTHBEARER command":
            code = f"print(open({str(self.folder / 'token')!r}).read())"
            command = shlex.join([sys.executable, "-S", "-c", code])
            return sasl | {"kafka_sasl_mechanism": "OAUTHBEARER", "kafka_oauth_token_command": command}
        return sasl | {
            "kafka_sasl_mechanism": way,
            "kafka_sasl_username": "alice",
            "kafka_sasl_password_file": str(self.folder / "password"),
        }


WITH_BOTH_CLIENTS = ("mutual TLS", "SCRAM-SHA-512", "OAUTHBEARER command")
WAYS = ["TLS", "mutual TLS", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER file", "OAUTHBEARER command"]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder)
    overrides = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.sasl.plain.sasl.jaas.config": f'{PLAIN_MODULE} required user_alice="{CANARY}";',
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": f"{SCRAM_MODULE} required;",
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{SCRAM_MODULE} required;",
        "listener.name.sasl.oauthbearer.sasl.jaas.config": f'{OAUTH_MODULE} required unsecuredLoginStringClaim_sub="x";',
        "listener.name.mutual.ssl.client.auth": "required",
    }
    certificates = {
        "EXPIRED": authority.issue("expired", expired=True),
        "ELSEWHERE": authority.issue("elsewhere", names="DNS:elsewhere.example"),
        "NAMED": authority.issue("named", names="DNS:localhost"),
    }
    usual = authority.issue("broker")
    for listener in LISTENERS:
        prefix = f"listener.name.{listener.lower()}.ssl"
        overrides[f"{prefix}.keystore.type"] = overrides[f"{prefix}.truststore.type"] = "PEM"
        overrides[f"{prefix}.keystore.location"] = str(certificates.get(listener, usual).together())
        overrides[f"{prefix}.truststore.location"] = str(authority.certificate)
    broker = Broker(folder / "kafka", overrides=overrides, listeners=LISTENERS, scram_users={"alice": CANARY})
    (folder / "password").write_text(CANARY + "\n")
    (folder / "token").write_text(unsecured_token())
    try:
        broker.start()
        yield Secured(
            broker, authority, authority.issue("client", password=CANARY), Authority(folder, "other").issue("x"), folder
        )
    finally:
        broker.stop()


def unsecured_token() -> str:
    """A JSON Web Token that nobody signed (RFC 7515, appendix A.5): Kafka takes them where nothing else is set up."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": "alice", "iat": now, "exp": now + 3600, "note": CANARY})
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts), ""])


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"INFERRY_{name.upper()}": str(value) for name, value in settings.items()}


def producer(settings: Mapping[str, object], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "producer", *words],
        env={**os.environ, **environment(settings)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def start(world: World, settings: Mapping[str, object], **more: object) -> WorkerProcess:
    """A worker whose connection is named by its environment, as in a container."""
    others = {name: value for name, value in world.settings(**more).items() if name not in settings}
    return WorkerProcess(others, world.folder / "worker.log", environment=environment(settings))


@pytest.fixture(scope="module")
def clean_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("INFERRY_"):
                patch.delenv(name)
        yield


pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.mark.parametrize("way", WAYS)
def test_each_way_in_is_one_for_worker_producer_dead_letters_and_ask(
    secured: Secured, make_world: MakeWorld, way: str
) -> None:
    world = make_world(bootstrap=secured.broker.bootstrap, partitions=1)
    settings = secured.settings(way)
    pushed = producer(settings, "push", "--text", "a good film", "--text", "", "--topic", world.reviews)
    assert pushed.returncode == 0, pushed.stderr
    said = [pushed.stdout, pushed.stderr]
    clients = MAKERS if way in WITH_BOTH_CLIENTS else [DEFAULT]
    for client in clients:
        with start(world, settings, kafka_client=client, until="end", group=f"{world.group}-{client}") as worker:
            assert worker.wait() == 0, worker.log
            said.append(worker.log)
    listed = producer(settings, "dead-letters", "list", "--topic", world.dead)
    assert listed.returncode == 0, listed.stderr
    said += [listed.stdout, listed.stderr]
    if way == "mutual TLS":  # it reads these settings, and talks to the model server alone
        asked = producer(settings, "ask", "--serving", world.serving, "a good film")
        assert asked.returncode == 0, asked.stderr
        said += [asked.stdout, asked.stderr]
    assert CANARY not in "".join(said)
    assert len(world.results()) == len(clients)


REFUSALS = [
    ("TLS", {"listener": "EXPIRED"}, "expired"),
    ("TLS", {"listener": "ELSEWHERE"}, "by a name that "),
    ("TLS", {"listener": "NAMED", "host": "localhost"}, "by a name that "),
    ("TLS", {"kafka_ssl_cafile": "stranger"}, "kafka-ssl-cafile"),
    ("TLS", {"listener": "MUTUAL"}, "kafka-ssl-certfile"),
    ("PLAIN", {"kafka_sasl_password_file": "wrong"}, "kafka-sasl-password"),
    ("SCRAM-SHA-512", {"kafka_sasl_password_file": "wrong"}, "kafka-sasl-password"),
    ("OAUTHBEARER command", {"kafka_oauth_token_command": "false"}, "kafka-oauth-token-command"),
    ("OAUTHBEARER file", {"kafka_oauth_token_file": "wrong"}, "refuses the credentials"),
]
SEEN_BY_LIBRDKAFKA = [REFUSALS[index] for index in (2, 4, 6, 7)]
"""To it, expired, unknown and for another name are one."""


@pytest.mark.parametrize(
    ("client", "way", "wrong", "said"),
    [
        *(("kafka-python", *refusal) for refusal in REFUSALS),
        *(("librdkafka", *refusal) for refusal in SEEN_BY_LIBRDKAFKA),
    ],
)
def test_what_waiting_cannot_mend_ends_with_a_sentence(
    secured: Secured, make_world: MakeWorld, client: str, way: str, wrong: dict[str, str], said: str
) -> None:
    settings = secured.settings(way) | {k: v for k, v in wrong.items() if k not in ("listener", "host")}
    if "listener" in wrong:
        settings["bootstrap"] = secured.broker.address(wrong["listener"], wrong.get("host", "127.0.0.1"))
    (secured.folder / "wrong").write_text(f"wrong-{CANARY}")
    paths = {"wrong": str(secured.folder / "wrong"), "stranger": str(secured.stranger.certificate)}
    settings = {name: paths.get(value, value) for name, value in settings.items()}
    world = make_world(bootstrap=secured.broker.bootstrap, partitions=1)
    # Minutes of patience: only the refusal itself can end it within the test's limit.
    with start(world, settings, kafka_client=client, startup_seconds=900) as worker:
        assert worker.wait() == 78, worker.log
        assert said in worker.log.splitlines()[-1]
        assert "Traceback" not in worker.log
        assert CANARY not in worker.log
    if client == "kafka-python":
        pushed = producer(settings, "push", "--text", "a good film", "--topic", world.reviews)
        assert pushed.returncode == 78, pushed.stderr
        assert said.replace("-", "_").upper() in pushed.stderr.replace("-", "_").upper()
        assert len(pushed.stderr.splitlines()) == 1
        assert CANARY not in pushed.stderr


def test_an_address_that_the_certificate_does_not_name_is_told_whichever_connection_meets_it(secured: Secured) -> None:
    """The consumer may be answered by the bootstrap address before it tries what the broker calls itself."""
    given = secured.settings("TLS") | {"bootstrap": secured.broker.address("NAMED", "localhost")}
    settings = Settings(**given, kafka_client="librdkafka", kafka_request_timeout_seconds=2)
    with pytest.raises(TlsRefused, match="by a name that "):
        Admin(settings, SystemClock()).topics(["any"])


def test_a_running_worker_shows_its_secrets_nowhere(secured: Secured, make_world: MakeWorld) -> None:
    world = make_world(bootstrap=secured.broker.bootstrap, partitions=1)
    settings = secured.settings("SCRAM-SHA-256")
    del settings["kafka_sasl_password_file"]
    settings |= {"kafka_sasl_password": CANARY, "log_level": "debug"}
    with start(world, settings) as worker:
        worker.wait_ready()
        paths = ("/metrics", "/status.json", "/")
        shown = [worker.get(path)[1] for path in paths]
        shown += [Path(f"/proc/{worker.pid}/cmdline").read_text(), worker.log]
        worker.stop()
    assert all(shown)
    assert "alice" in shown[1], "the settings are there, and the secret among them is not"
    assert CANARY not in "".join(shown)


def test_the_documented_settings_let_a_worker_in(secured: Secured, make_world: MakeWorld, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    documented = page.split("```toml\n")[1].split("```")[0]
    real = {
        "kafka.example:9093": secured.broker.address("SASL"),
        "/etc/inferry/ca.pem": str(secured.authority.certificate),
        "/run/secrets/kafka-password": str(secured.folder / "password"),
    }
    for shown, meant in real.items():
        assert shown in documented
        documented = documented.replace(shown, meant)
    path = tmp_path / "worker.toml"
    path.write_text(documented)
    world = make_world(bootstrap=secured.broker.bootstrap, partitions=1)
    world.push(["a good film"])
    others = {name: value for name, value in world.settings(until="end").items() if name != "bootstrap"}
    with WorkerProcess(others, world.folder / "worker.log", environment={"INFERRY_CONFIG": str(path)}) as worker:
        assert worker.wait() == 0, worker.log
    assert len(world.results()) == 1
