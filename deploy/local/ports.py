"""TCP ports on this machine."""

from __future__ import annotations

import socket

from deploy.local.errors import PortTaken

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port of the loopback address that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(port: int, purpose: str) -> None:
    """Raises PortTaken when something listens on `port` already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free for a server
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortTaken(
                f"Port {port}, wanted for {purpose}, is in use or not allowed ({error.strerror}). "
                "Stop what uses it, or choose another port, or name none and get a free one."
            ) from error


def accepts(port: int, timeout_seconds: float = 1.0) -> bool:
    """Whether something accepts connections on `port` of the loopback address."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout_seconds):
            return True
    except OSError:
        return False
