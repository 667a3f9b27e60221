"""TCP ports on this machine."""

from __future__ import annotations

import random
import socket
import sys
from pathlib import Path

from deploy.local.errors import PortTaken

LOOPBACK = "127.0.0.1"
ANY = 0
"""Instead of a port: any free one."""
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, HIGHEST = 15_000, 65_535
"""Below are the ports that programs are known by, the stack's standard ones too."""
ENOUGH = 1_000
"""So many ports, and two choices at the same moment are seldom the same."""
TRIES = 200


class PortChooser:
    """Chooses the ports of one stack, and keeps them for it among the stacks of this machine until `release`.

    A program opens its port seconds after it was found free. Two stacks that start side by side would both find the
    standard ports free, and one of them would fail. One thread."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """A sentence for each standard port that was taken."""
        self._kept: list[socket.socket] = []

    def choose(self, named: int | None, standard: int, purpose: str) -> int:
        """`named`, where it is a port; `standard`, or any free one where that is taken, for None; any free one for `ANY`.

        Raises PortTaken when the named one is."""
        if named == ANY:
            return free_port()
        try:
            return self._keep(standard if named is None else named, purpose)
        except PortTaken:
            if named is not None:
                raise
        port = free_port()
        self.notes.append(f"Port {standard}, wanted for {purpose}, is taken: {port} is used instead.")
        return port

    def release(self) -> None:
        """Lets other stacks have the ports."""
        while self._kept:
            self._kept.pop().close()

    def _keep(self, port: int, purpose: str) -> int:
        """Raises PortTaken."""
        if sys.platform == "linux":
            mark = socket.socket(socket.AF_UNIX)
            try:
                # A name, not a file: held by one process of this network namespace, and gone with it, however it ends.
                mark.bind(f"\0inferry-local/port/{port}")
            except OSError as error:
                mark.close()
                raise PortTaken(f"Port {port}, wanted for {purpose}, is that of a stack that is starting.") from error
            self._kept.append(mark)
        require_free(port, purpose)
        return port


def free_port() -> int:
    """A port of the loopback address that nothing listens on at this moment, and that no outgoing connection will take.

    The kernel gives outgoing connections any port of its ephemeral range (ip(7), ip_local_port_range). A server that opens
    its port a while after it was chosen, or opens it again after a crash, would find one of those taken now and then."""
    some = random.SystemRandom()
    for _ in range(TRIES):
        port = some.choice(_beside_the_ephemeral())
        if _is_free(port):
            return port
    raise PortTaken(f"No free port was found: {TRIES} of them, chosen at random, are all in use.")


def free_ports(count: int) -> list[int]:
    """So many different ones; see free_port."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _beside_the_ephemeral() -> range:
    """The larger of the two ranges below and above the ephemeral ports; those themselves where they leave too little."""
    try:
        first, last = map(int, EPHEMERAL_RANGE.read_text().split())
    except (OSError, ValueError):  # not Linux: what IANA says
        first, last = 49_152, 65_535
    larger = max(range(LOWEST, first), range(last + 1, HIGHEST + 1), key=len)
    return larger if len(larger) >= ENOUGH else range(first, last + 1)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def require_free(port: int, purpose: str) -> None:
    """Raises PortTaken when something listens on `port` already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free for a server
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortTaken(
                f"Port {port}, wanted for {purpose}, is in use or not allowed ({error.strerror}). "
                f"Stop what uses it, or choose another port, or {ANY} for any free one."
            ) from error


def accepts(port: int, timeout_seconds: float = 1.0) -> bool:
    """Whether something accepts connections on `port` of the loopback address."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout_seconds):
            return True
    except OSError:
        return False
