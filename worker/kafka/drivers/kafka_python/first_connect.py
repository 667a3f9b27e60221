"""Ends the first connect at once when a broker refuses the credentials.

kafka-python 3.0.12 asks again until its time is up, for three reasons that are undone here. What a broker says just before
it hangs up is dropped unread (net/transport.py, _read_from_sock), a connection keeps what it did read to itself
(net/connection.py, initialize), and a failure that was noted is forgotten in the same turn (net/manager.py, _connect).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from worker.kafka.drivers.kafka_python.errors import CREDENTIALS


class _TellingManager(KafkaConnectionManager):  # type: ignore[misc]  # kafka-python ships no types
    """Once the cluster is known, it is the client's own manager again: brokers that restart may refuse for a moment."""

    _refusal: Exception | None = None

    def get_connection(self, node_id: Any, *arguments: Any, **named: Any) -> KafkaConnection:
        first = not self.cluster.brokers()
        if first and self._refusal is not None:
            raise self._refusal
        known = self._conns.get(node_id)
        connection = super().get_connection(node_id, *arguments, **named)
        if first and connection is not known:
            # It connects in a later turn of the client's loop, so this comes in time.
            connection._sasl_authenticate = partial(self._authenticate, connection._sasl_authenticate)
        return connection

    async def _authenticate(
        self, authenticate: Callable[..., Awaitable[None]], timeout_at: float | None = None
    ) -> None:
        try:
            await authenticate(timeout_at)
        except CREDENTIALS as error:
            self._refusal = error
            raise

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        if not self.cluster.brokers():
            transport._sock_recv = partial(_received_before_the_end, transport._sock_recv)
        return transport


def _received_before_the_end(receive: Callable[[], tuple[bytes, Exception | None]]) -> tuple[bytes, Exception | None]:
    """What was received, and that the connection has ended only if there was nothing: the next call says so again."""
    data, error = receive()
    return data, None if data else error


def telling_client(**options: Any) -> KafkaNetClient:
    """The client's inner client, with the manager above: for the option `kafka_client` of the first to connect."""
    net = NetworkSelector(**options)
    return KafkaNetClient(net=net, manager=_TellingManager(net, **options), **options)
