"""A TCP proxy whose faults are switched while connections run: cut, black hole each way, delay, slow drip; and one request
to Kafka held back until the client has sent it again.

One for each worker stands between it and the broker, another between it and the model server.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from enum import IntEnum, StrEnum

from deploy.local.ports import LOOPBACK, free_port

CHUNK_BYTES = 65_536
DRIP_BYTES = 64
"""A slow drip: this many bytes at a time, 50 times a second."""
DRIP_SECONDS = 0.02
LATE_SECONDS = 10.0
"""For the answer to a request that was let through late."""


class Mode(StrEnum):
    """What happens to bytes."""

    OPEN = "open"
    REFUSE = "refuse"
    """Open connections are reset, new ones as well."""
    HOLE_UP = "hole-up"
    """What the client sends disappears; the other way goes on."""
    HOLE_DOWN = "hole-down"
    """What the server sends disappears."""
    DELAY = "delay"
    DRIP = "drip"


class ApiKey(IntEnum):
    """The kinds of requests to Kafka that can be held back, by their numbers in its protocol."""

    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Proxy:
    """Listens on `port` (0: a free one) and forwards to `target`. A thread for each direction of each connection.

    Bytes once swallowed are gone, so a connection that a hole has touched is cut when the hole is closed: TCP itself
    would never deliver a stream with a gap."""

    def __init__(self, target: tuple[str, int], port: int = 0, delay_seconds: float = 0.3) -> None:
        self._target = target
        self._delay_seconds = delay_seconds
        self._mode = Mode.OPEN
        self._open: set[_Connection] = set()
        self._lock = threading.Lock()
        self._awaited: ApiKey | None = None
        self._late: bytes | None = None
        self._listener = socket.create_server((LOOPBACK, port or free_port()), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._closed = False
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        was, self._mode = self._mode, mode
        if mode is Mode.REFUSE or was in (Mode.HOLE_UP, Mode.HOLE_DOWN):
            self.cut()

    @property
    def delay_seconds(self) -> float:
        """How long DELAY holds each chunk back."""
        return self._delay_seconds

    def cut(self) -> None:
        """Resets every open connection."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            connection.reset()

    def hold_back(self, kind: ApiKey) -> None:
        """Keeps the next request of this kind, and cuts the connection that it came by: the client cannot know whether
        it arrived, and sends it again."""
        with self._lock:
            self._awaited = kind

    @property
    def holds_back(self) -> bool:
        """Whether a request is being kept."""
        return self._late is not None

    def let_through(self) -> None:
        """The kept request, if there is one, reaches the broker now, and its answer nobody; no further one is awaited.
        Blocks until the answer has come. Raises OSError when the broker is not there."""
        with self._lock:
            request, self._late, self._awaited = self._late, None, None
        if request is not None:
            # The broker takes each request for itself, whatever connection it comes by.
            with socket.create_connection(self._target, LATE_SECONDS) as broker:
                broker.sendall(request)
                broker.recv(CHUNK_BYTES)

    def keeps(self, api_key: int, request: bytes) -> bool:
        """Whether this request is the awaited one, which is kept then."""
        with self._lock:
            if api_key != self._awaited:
                return False
            self._late, self._awaited = request, None
            return True

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.cut()

    def forget(self, connection: _Connection) -> None:
        with self._lock:
            self._open.discard(connection)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._mode is Mode.REFUSE:
                _reset(client)
                continue
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, 5)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(self, client, server)
        with self._lock:
            self._open.add(connection)
        connection.start()


class _Connection:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._sockets = (client, server)

    def start(self) -> None:
        client, server = self._sockets
        for way in ((client, server, Mode.HOLE_UP), (server, client, Mode.HOLE_DOWN)):
            threading.Thread(target=self._pump, args=way, daemon=True).start()

    def reset(self) -> None:
        for each in self._sockets:
            _reset(each)

    def _pump(self, source: socket.socket, sink: socket.socket, hole: Mode) -> None:
        requests = Requests()
        try:
            while content := source.recv(CHUNK_BYTES):
                pieces = requests.split(content) if hole is Mode.HOLE_UP else [(content, None)]
                for piece, api_key in pieces:
                    if api_key is not None and self._proxy.keeps(api_key, piece):
                        return  # which cuts the connection
                    self._forward(piece, sink, hole)
        except OSError:
            pass  # cut from one side or by us: the other side is told below
        finally:
            self._proxy.forget(self)
            self.reset()

    def _forward(self, content: bytes, sink: socket.socket, hole: Mode) -> None:
        mode = self._proxy.mode
        if mode is hole:
            return
        if mode is Mode.DELAY:
            time.sleep(self._proxy.delay_seconds)
        while self._proxy.mode is Mode.DRIP and content:
            sink.sendall(content[:DRIP_BYTES])
            content = content[DRIP_BYTES:]
            time.sleep(DRIP_SECONDS)
        sink.sendall(content)


class Requests:
    """Follows what one client sends to Kafka: each request is its length in four bytes, its kind in two, and the rest.

    Of another protocol it makes nothing, but passes all of it on just the same."""

    def __init__(self) -> None:
        self._length = b""
        """What has come so far of a length that comes in parts."""
        self._missing_bytes = 0
        """Of the request that has begun."""

    def split(self, content: bytes) -> Iterator[tuple[bytes, int | None]]:
        """The content in pieces of at most one request each, with the kind of those that are a whole request. Nothing
        waits here for what comes later."""
        while content:
            kind = None
            if not self._missing_bytes and not self._length and len(content) >= 6:
                length, kind = struct.unpack(">Ih", content[:6])
                self._missing_bytes = 4 + length
            elif not self._missing_bytes:
                part = content[: 4 - len(self._length)]
                self._length += part
                self._missing_bytes = len(part)
                if len(self._length) == 4:
                    self._missing_bytes += int.from_bytes(self._length)
                    self._length = b""
            piece, content = content[: self._missing_bytes], content[self._missing_bytes :]
            self._missing_bytes -= len(piece)
            yield piece, None if self._missing_bytes else kind


def _reset(sock: socket.socket) -> None:
    """Closes with RST instead of FIN, as a peer that crashed. Wakes whoever waits in recv()."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)
    except OSError:
        pass  # not connected any more
    sock.close()
