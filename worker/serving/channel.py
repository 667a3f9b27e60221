"""The connection to the model server: TLS, a bearer token, and both replaced while the worker runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import grpc

from worker.errors import ConfigError
from worker.security import TokenSource, TokenUnavailable
from worker.security.serving import check_serving
from worker.serving.options import Options, read_file

CHANNEL_OPTIONS = (
    ("grpc.enable_retries", 0),  # the pipeline decides what is sent again, and counts it
    ("grpc.max_send_message_length", -1),  # we check the size ourselves, and can say what to do about it
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # a reply has some bytes a review; this is far beyond
    # A server that comes back is noticed within two seconds, however long it was away; grpc's own limit is two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A peer that vanished without a word is noticed while calls wait for it; an idle connection is not probed, since
    # servers end connections that ping too often.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.enable_http_proxy", 0),  # http_proxy is meant for the web; the model server stands beside the worker
    ("grpc.use_local_subchannel_pool", 1),  # closing the channel closes its connection
)


class Channel:
    """A grpc channel that is opened anew when one of its files has changed. Thread-safe.

    Python's gRPC has no credentials that reload for a client, so that a rotated certificate needs another channel. Calls
    under way end on the one they began on: it is closed at the next change, or at the end."""

    def __init__(self, options: Options) -> None:
        """Opens nothing on the network yet. Raises ConfigError for files that cannot be used."""
        self._options = options
        self._lock = Lock()
        self._closed = False
        self._state = _state(options)
        try:
            self._channel = _open(options)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self._before: Any = None

    def call(self, method: str, request: bytes, timeout_seconds: float) -> bytes:
        """One call, waited for. Raises grpc.RpcError, ValueError when closed."""
        reply: bytes = self._channel.unary_unary(method)(request, timeout=timeout_seconds)
        return reply

    def start(
        self,
        method: str,
        request: bytes,
        *,
        timeout_seconds: float,
        metadata: Sequence[tuple[str, str]] | None = None,
    ) -> Any:
        """One call, as a grpc future. Raises ValueError when closed."""
        return self._channel.unary_unary(method).future(request, timeout=timeout_seconds, metadata=metadata)

    def renew(self) -> None:
        """Takes changed files up, for the calls that begin from now on. Files that cannot be used,
        such as a certificate whose key is not there yet, are looked at again at the next call."""
        state = _state(self._options)
        if state == self._state:
            return
        try:
            opened = _open(self._options)
        except (ValueError, ConfigError):
            return
        with self._lock:
            if self._closed:
                opened.close()
                return
            before, self._before, self._channel = self._before, self._channel, opened
        self._state = state
        if before is not None:
            before.close()

    def close(self) -> None:
        """Ends every call. Idempotent."""
        with self._lock:
            self._closed = True
        for channel in (self._channel, self._before):
            if channel is not None:
                channel.close()


class _Bearer(grpc.AuthMetadataPlugin):  # type: ignore[misc]  # grpc ships no types
    """Reads the token's file for each call: one call is a batch of reviews, and the file a few hundred bytes."""

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens

    def __call__(self, _context: object, callback: Any) -> None:
        try:
            callback((("authorization", f"Bearer {self._tokens.token().value}"),), None)
        except TokenUnavailable as error:
            callback((), error)


def _files(options: Options) -> tuple[str, ...]:
    return tuple(path for path in (options.ca_file, options.cert_file, options.key_file) if path)


def _state(options: Options) -> tuple[tuple[int, int, int], ...]:
    """What tells a changed file: of a Kubernetes Secret, the link leads to another one."""
    found = []
    for path in _files(options):
        try:
            status = Path(path).stat()
        except OSError:
            continue
        found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _open(options: Options) -> Any:
    check_serving(
        tls=options.tls,
        ca_file=options.ca_file,
        cert_file=options.cert_file,
        key_file=options.key_file,
        server_name=options.server_name,
        token_file=options.token_file,
    )
    if not (options.tls or options.ca_file):
        return grpc.insecure_channel(options.target, options=CHANNEL_OPTIONS)
    certificate = read_file(options.cert_file, "The certificate file") if options.cert_file else None
    # Either file may hold both.
    key = read_file(options.key_file or options.cert_file, "The key file") if options.cert_file else None
    authorities = read_file(options.ca_file, "The authorities' file") if options.ca_file else None
    credentials = grpc.ssl_channel_credentials(authorities, key, certificate)
    if options.token_file:
        tokens = TokenSource("serving-token-file", file=options.token_file)
        credentials = grpc.composite_channel_credentials(credentials, grpc.metadata_call_credentials(_Bearer(tokens)))
    name = (("grpc.ssl_target_name_override", options.server_name),) if options.server_name else ()
    return grpc.secure_channel(options.target, credentials, options=(*CHANNEL_OPTIONS, *name))
