from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.certificates import Authority
from tests.support.harness import wait_for
from worker.errors import ConfigError, ExitCode
from worker.observability import health
from worker.observability.health import Health
from worker.settings import load

CALM = (lambda: None, lambda: None)


class Probed:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Counter("things_total", "Things.", registry=self.registry).inc(3)
        self.stalled: str | None = None
        self.unready: str | None = None
        self.health = Health("127.0.0.1", 0, self.registry, lambda: self.stalled, lambda: self.unready)
        self.port = self.health.start()

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.headers.get("Content-Type", ""), reply.read().decode()
        finally:
            connection.close()


@pytest.fixture
def probed() -> Iterator[Probed]:
    served = Probed()
    yield served
    served.health.close()


def test_serves_the_metrics(probed: Probed) -> None:
    status, content_type, body = probed.ask("/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert "things_total 3.0" in body


def test_speaks_openmetrics_when_asked(probed: Probed) -> None:
    status, content_type, body = probed.ask("/metrics?x=1", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert content_type.startswith("application/openmetrics-text")
    families = text_string_to_metric_families(body)  # type: ignore[no-untyped-call]
    assert [family.name for family in families] == ["things"]


def test_probes_follow_the_checks(probed: Probed) -> None:
    assert probed.ask("/livez") == (200, "text/plain; charset=utf-8", "ok\n")
    assert probed.ask("/readyz")[::2] == (200, "ok\n")
    probed.unready = "No model version\nis available."
    assert probed.ask("/readyz")[::2] == (503, "No model version is available.\n")
    assert probed.ask("/livez")[0] == 200
    probed.stalled = "Partition reviews/0 …"
    assert probed.ask("/livez")[::2] == (503, "Partition reviews/0 …\n")
    probed.stalled = None
    assert probed.ask("/livez")[0] == 200


def test_head_answers_without_a_body(probed: Probed) -> None:
    probed.unready = "Not yet."
    assert probed.ask("/readyz", "HEAD")[::2] == (503, "")
    status, content_type, body = probed.ask("/metrics", "HEAD")
    assert (status, body) == (200, "")
    assert content_type.startswith("text/plain")


def test_other_paths_and_methods_are_refused(probed: Probed) -> None:
    status, _, body = probed.ask("/")
    assert status == 404
    assert "/metrics, /livez, /readyz" in body
    assert probed.ask("/livez", "POST")[0] == 501


def test_a_check_that_raises_answers_nobody_and_kills_nothing() -> None:
    def broken() -> str | None:
        raise RuntimeError("a bug")

    served = Health("127.0.0.1", 0, CollectorRegistry(), broken, lambda: None)
    port = served.start()
    try:
        for path, expected in (("/livez", None), ("/readyz", 200)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", path)
            if expected is None:
                with pytest.raises(http.client.RemoteDisconnected):
                    connection.getresponse()
            else:
                assert connection.getresponse().status == expected
            connection.close()
    finally:
        served.close()


def test_a_port_taken_is_a_sentence(probed: Probed) -> None:
    second = Health("127.0.0.1", probed.port, CollectorRegistry(), lambda: None, lambda: None)
    with pytest.raises(ConfigError, match=f"metrics port {probed.port} on 127.0.0.1 cannot be opened") as refused:
        second.start()
    assert "metrics-port" in str(refused.value)
    assert refused.value.exit_code == ExitCode.CONFIG
    second.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no host at all", "::ffff:192.0.2.1"])
def test_an_address_that_is_not_ours_is_a_sentence(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        Health(host, 0, CollectorRegistry(), lambda: None, lambda: None).start()


def test_close_frees_the_port_and_may_be_repeated(probed: Probed) -> None:
    probed.ask("/livez")
    probed.health.close()
    probed.health.close()
    again = Health("127.0.0.1", probed.port, CollectorRegistry(), lambda: None, lambda: None)
    assert again.start() == probed.port
    again.close()


def test_silent_and_slow_clients_cannot_tie_the_port_up(probed: Probed, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [socket.create_connection(("127.0.0.1", probed.port), timeout=30) for _ in range(health.MAX_CONNECTIONS)]
    try:
        for connection in silent:
            connection.sendall(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        assert probed.ask("/livez")[0] == 200
        assert silent[0].recv(1) == b"", "the oldest connection makes room for the newest"
        monkeypatch.setattr(health, "CONNECTION_SECONDS", 0.0)
        for connection in silent[1:]:
            assert connection.recv(1) == b"", "a connection is closed when its time is over"
    finally:
        for connection in silent:
            connection.close()


def test_silence_before_the_handshake_cannot_tie_a_tls_port_up(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("worker")
    authority = tmp_path / "authority" / "authority.pem"
    files = ["--metrics-cert-file", str(issued.certificate), "--metrics-key-file", str(issued.key)]
    served = Health("127.0.0.1", 0, CollectorRegistry(), *CALM, tls=load(files).metrics_tls())
    port = served.start()
    silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(health.MAX_CONNECTIONS + 5)]
    try:
        context = ssl.create_default_context(cafile=str(authority))
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/livez", timeout=30, context=context) as answer:
            assert answer.read() == b"ok\n"
        with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
            plain.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert b"ok" not in plain.recv(100)
    finally:
        for connection in silent:
            connection.close()
        served.close()


def test_a_token_guards_all_but_the_probes_and_may_change(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("canary-1\n")
    token = load(["--metrics-token-file", str(path)]).metrics_token
    served = Health("127.0.0.1", 0, CollectorRegistry(), *CALM, token=token)
    port = served.start()

    def status(target: str, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", target, headers=headers)
        reply = connection.getresponse()
        assert b"canary" not in reply.read()
        connection.close()
        return reply.status

    try:
        assert status("/livez") == status("/readyz") == 200
        assert status("/metrics") == status("/metrics", Authorization="Bearer canary") == 401
        assert status("/metrics", Authorization="Bearer canary-1") == 200
        path.write_text("canary-2")
        assert status("/metrics", Authorization="Bearer canary-1") == 401
        assert status("/metrics", Authorization="Bearer canary-2") == 200
        path.unlink()
        assert status("/metrics", Authorization="Bearer canary-2") == 401
    finally:
        served.close()


def test_it_listens_at_an_ipv6_address() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    served = Health("::1", 0, CollectorRegistry(), *CALM)
    try:
        port = served.start()
    except ConfigError:
        pytest.skip("no IPv6 here")
    connection = http.client.HTTPConnection("::1", port, timeout=30)
    connection.request("GET", "/livez")
    assert connection.getresponse().status == 200
    connection.close()
    served.close()


def threads() -> int:
    """How many connections are being served in this process."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_hundreds_of_connections_and_huge_headers_leave_it_answering(probed: Probed) -> None:
    opened = [socket.create_connection(("127.0.0.1", probed.port), timeout=30) for _ in range(200)]
    try:
        assert probed.ask("/livez")[0] == 200
        wait_for(lambda: threads() <= health.MAX_CONNECTIONS + 1, 30, "the end of what was closed for newer ones")
    finally:
        for connection in opened:
            connection.close()
    assert probed.ask("/livez", X="x" * 70_000)[0] == 431
    assert probed.ask("/livez", **{f"X-{n}": "x" for n in range(200)})[0] == 431
    assert probed.ask("/livez")[0] == 200


def test_a_scraper_that_never_reads_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"x" * (64 << 20)  # more than the buffers of a connection hold
    served = Health(
        "127.0.0.1",
        0,
        CollectorRegistry(),
        *CALM,
        pages={"/large": lambda _accept: health.Answer(HTTPStatus.OK, "text/plain", body)},
    )
    port = served.start()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as scraper:
            scraper.sendall(b"GET /large HTTP/1.0\r\n\r\n")
            assert scraper.recv(1) == b"H"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=30) as answer:
                assert answer.status == 200
            monkeypatch.setattr(health, "CONNECTION_SECONDS", 0.0)
            for thread in threading.enumerate():
                if "process_request_thread" in thread.name:
                    thread.join(30)
                    assert not thread.is_alive()
    finally:
        served.close()


@pytest.mark.parametrize("tls", [False, True])
def test_the_images_health_check_asks_the_port_as_it_is_set(*, tls: bool, tmp_path: Path) -> None:
    dockerfile = (Path(__file__).parents[4] / "deploy" / "compose" / "Dockerfile").read_text(encoding="utf-8")
    command = dockerfile.split("HEALTHCHECK", 1)[1].split("CMD ", 1)[1].split("\nCMD", 1)[0]
    [_, flag, code] = json.loads(command.replace("\\\n", ""))
    issued = Authority(tmp_path).issue("worker")
    files = ["--metrics-cert-file", str(issued.certificate), "--metrics-key-file", str(issued.key)] if tls else []
    served = Health("127.0.0.1", 0, CollectorRegistry(), *CALM, tls=load(files).metrics_tls())
    environment = {"INFERRY_METRICS_PORT": str(served.start())}
    if tls:
        environment["INFERRY_METRICS_CERT_FILE"] = str(issued.certificate)
    asked = subprocess.run([sys.executable, flag, code], env=environment, capture_output=True, text=True, check=False)
    served.close()
    refused = subprocess.run([sys.executable, flag, code], env=environment, capture_output=True, text=True, check=False)

    assert asked.returncode == 0, asked.stderr
    assert refused.returncode != 0
