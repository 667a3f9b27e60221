"""Ends the first connect at once when a broker refuses the credentials or one side the other's certificate.

kafka-python 3.0.12 asks again until its time is up, for three reasons that are undone here. What a broker says just before
it hangs up is dropped unread (net/transport.py, _read_from_sock), a connection keeps what it did read to itself
(net/connection.py, initialize), and a failure that was noted is forgotten in the same turn (net/manager.py, _connect).
A failed handshake is an outage to it, whatever the reason (net/manager.py, _build_transport).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from worker.kafka.drivers.kafka_python import tls
from worker.kafka.drivers.kafka_python.errors import CREDENTIALS, NoToken, TlsRefusedError, TokenAway

Received = tuple[bytes, Exception | None]


class _TellingManager(KafkaConnectionManager):  # type: ignore[misc]  # kafka-python ships no types
    """Once the cluster is known and one of its brokers has let us in, it is the client's own manager again: brokers that
    restart may refuse for a moment, and a certificate that expires later is an outage to hold for."""

    _refusal: Exception | None = None
    _let_in = False
    """By a broker under the address that it advertises, which may differ from the one we were told."""

    def get_connection(self, node_id: Any, *arguments: Any, **named: Any) -> KafkaConnection:
        if self._refusal is not None and not self._let_in:
            raise self._refusal
        known = self._conns.get(node_id)
        connection = super().get_connection(node_id, *arguments, **named)
        if connection is not known and not self._let_in:
            # It connects in a later turn of the client's loop, so this comes in time.
            connection._sasl_authenticate = partial(self._authenticate, connection._sasl_authenticate)
            if not self.cluster.is_bootstrap(node_id):
                connection.init_future.add_callback(self._note_let_in)
        return connection

    async def _authenticate(
        self, authenticate: Callable[..., Awaitable[None]], timeout_at: float | None = None
    ) -> None:
        try:
            await authenticate(timeout_at)
        except CREDENTIALS as error:
            self._note_unless_known(error)
            raise
        except TokenAway as error:
            self._note_unless_known(NoToken(str(error)))
            raise

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        try:
            transport = await super()._build_transport(node, timeout_at=timeout_at)
        except KafkaConnectionError as error:
            self._note_tls(error.__context__)
            raise
        if not self._let_in:
            transport._sock_recv = partial(self._received_before_the_end, transport._sock_recv)
        return transport

    def _received_before_the_end(self, receive: Callable[[], Received]) -> Received:
        """What was received, and that the connection has ended only if there was nothing: the next call says so again.
        With TLS 1.3 a broker refuses our certificate when the handshake is over for us."""
        data, error = receive()
        if error is not None:
            self._note_tls(error.args[0] if error.args else None)
        return data, None if data else error

    def _note_tls(self, error: BaseException | None) -> None:
        sentence = tls.refusal(error)
        if sentence is not None:
            self._refusal = TlsRefusedError(sentence)

    def _note_unless_known(self, error: Exception) -> None:
        if not self.cluster.brokers():
            self._refusal = error

    def _note_let_in(self, _: object) -> None:
        self._let_in = True


def telling_client(**options: Any) -> KafkaNetClient:
    """The client's inner client, with the manager above: for the option `kafka_client` of the first to connect."""
    net = NetworkSelector(**options)
    return KafkaNetClient(net=net, manager=_TellingManager(net, **options), **options)
