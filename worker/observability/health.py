"""The worker's HTTP port: /metrics for Prometheus, /livez and /readyz for whoever restarts or watches it, pages for people.

A few clients ask a few times a minute, so one thread a connection is enough; both the number of connections and the
time of each are bounded, so that nobody can tie the port up by connecting and saying nothing, or saying it slowly.
"""

from __future__ import annotations

import hmac
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.errors import ConfigError

Check = Callable[[], str | None]
"""A probe: a sentence that says what is wrong, or None. Called on the server's threads; must not block."""


@dataclass(frozen=True)
class Answer:
    """What a route answers. `headers` are those beside Content-Type and Content-Length."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Callable[[str], Answer]
"""Answers one path, given the request's Accept header. Called on the server's threads."""

MAX_CONNECTIONS = 32
"""Beyond this the oldest connection is closed for the newest."""
CONNECTION_SECONDS = 10.0
"""A connection older than this is closed, whatever it is doing: Prometheus itself gives a scrape up after 10 s."""
_TICK_SECONDS = 0.25
PROBES = ("/livez", "/readyz")
"""Answered without a token: what restarts a worker rarely has one, and the answers say little."""
_NO_TOKEN = b"The header `Authorization: Bearer` with the token of metrics-token-file is wanted.\n"

_TEXT = "text/plain; charset=utf-8"


class Health:
    """Serves the registry and both probes on a thread of its own.

    `live` answers /livez and `ready` answers /readyz: 200 and `ok` for None, 503 and the sentence otherwise. `pages` are
    served beside them, by their paths; `tick` is called on the server's thread every quarter of a second. With `tls`
    nothing is answered in the clear. With `token` all but the probes wants `Authorization: Bearer` and what it returns;
    where it raises ValueError, nobody is let in.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        live: Check,
        ready: Check,
        *,
        pages: Mapping[str, Route] = MappingProxyType({}),
        tick: Callable[[], None] = lambda: None,
        tls: ssl.SSLContext | None = None,
        token: Callable[[], str] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._tick = tick
        self._tls = tls
        self._token = token
        self._routes: dict[str, Route] = {
            "/metrics": lambda accept: _metrics(registry, accept),
            "/livez": lambda _accept: _probe(live),
            "/readyz": lambda _accept: _probe(ready),
            **pages,
        }
        self._server: _Server | None = None
        self._thread: Thread | None = None

    def start(self) -> int:
        """Binds and begins to serve; returns the port bound, which is the one asked for unless that was 0.

        Raises ConfigError when the address cannot be bound: taken, not this machine's, or not allowed."""
        try:
            family, _, _, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._server = _Server(family, address, self._routes, self._tick, self._tls, self._token)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError(
                f"The metrics port {self._port} on {self._host} cannot be opened: {reason}. "
                "Set metrics-port to a free port, or to 0 for any, and metrics-host to an address of this machine."
            ) from error
        self._thread = Thread(target=self._server.serve_forever, args=(_TICK_SECONDS,), name="health", daemon=True)
        self._thread.start()
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stops serving and frees the port. Blocks up to about a quarter of a second; idempotent."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None


def _metrics(registry: CollectorRegistry, accept: str) -> Answer:
    encode, content_type = choose_encoder(accept)
    return Answer(HTTPStatus.OK, content_type, encode(registry))


def _probe(check: Check) -> Answer:
    wrong = check()
    if wrong is None:
        return Answer(HTTPStatus.OK, _TEXT, b"ok\n")
    line = " ".join(wrong.split()) + "\n"
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, line.encode("utf-8", "replace"))


class _Server(ThreadingMixIn, TCPServer):
    """socketserver rather than http.server.HTTPServer, which asks DNS for its own name before it serves."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        family: int,
        address: Any,
        routes: Mapping[str, Route],
        tick: Callable[[], None],
        tls: ssl.SSLContext | None,
        token: Callable[[], str] | None,
    ) -> None:
        self.address_family = family
        self.routes = routes
        self.token = token
        self._tls = tls
        self._tick = tick
        self._open: dict[socket.socket, float] = {}
        """Connections, oldest first, and when each began."""
        self._lock = Lock()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[Any, Any]:
        """The next connection. Its handshake is made by its own thread, at the first read: here it could hold all others."""
        connection, client_address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, client_address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Makes room for the connection, then gives it a thread."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Called at each tick: ends the connections that have had their time, and passes the tick on."""
        oldest_allowed = time.monotonic() - CONNECTION_SECONDS
        with self._lock:
            for connection, since in self._open.items():
                if since < oldest_allowed:
                    _hang_up(connection)
        try:
            self._tick()
        except Exception:  # noqa: BLE001  probes must be answered whatever a page's history does
            structlog.get_logger("worker").exception("the status page's sample failed")

    def shutdown_request(self, request: Any) -> None:
        """Called by the connection's thread when it is done."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  socketserver's signature
        """A client that went away is nothing to report; a probe that raised is, and its client sees no answer."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            structlog.get_logger("worker").error("a probe or the metrics failed", exc_info=error)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the client was faster
        return


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer, and the connection is closed (HTTP/1.0)."""

    server: _Server
    server_version = "inferry"
    sys_version = ""

    def do_GET(self) -> None:
        """Answers with the body."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answers as GET would, without the body."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        route = self.server.routes.get(urlsplit(self.path).path)
        if route is None:
            served = ", ".join(self.server.routes)
            answer = Answer(HTTPStatus.NOT_FOUND, _TEXT, f"Not found; there are {served}.\n".encode())
        elif not self._let_in():
            answer = Answer(HTTPStatus.UNAUTHORIZED, _TEXT, _NO_TOKEN, {"WWW-Authenticate": "Bearer"})
        else:
            answer = route(self.headers.get("Accept", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def _let_in(self) -> bool:
        if self.server.token is None or urlsplit(self.path).path in PROBES:
            return True
        shown = self.headers.get("Authorization", "").encode("utf-8", "replace")
        try:
            return hmac.compare_digest(shown, f"Bearer {self.server.token()}".encode())
        except ValueError:
            structlog.get_logger("worker").warning("metrics-token-file cannot be read: nobody is let in")
            return False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  http.server's name
        """Says nothing: a line for every scrape would drown the log."""
