from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from worker.errors import ConfigError, ExitCode
from worker.observability import health
from worker.observability.health import Health


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
