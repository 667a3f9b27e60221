"""`python -m deploy.local.model_server`: starts, says when it is ready, and stops on SIGTERM or SIGINT.

Exit codes: see `exits`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

from cyclopts import App, Group, Parameter

from deploy.local.model_server.exits import Exit, StartError
from deploy.local.model_server.flags import Flags, FlagsWithoutEffect
from deploy.local.model_server.runtime import prepare, quiet_stderr

_GRACE_SECONDS = 5.0
_STOP = {signal.SIGTERM, signal.SIGINT}
_log = logging.getLogger(__name__)

app = App(
    name="python -m deploy.local.model_server",
    help="TensorFlow Serving's stand-in on one machine. It is for one machine only: it listens on 127.0.0.1 and does"
    " not batch; deploy/compose runs the official server.",
    version_flags=[],
    default_parameter=Parameter(name_transform=lambda name: name, negative=""),
    result_action="return_value",
)


_WITHOUT_EFFECT = Group("Taken without effect", help="Flags of TensorFlow Serving that mean nothing here.", sort_key=1)


@app.default
def serve(
    flags: Annotated[Flags, Parameter(name="*")] = Flags(),  # noqa: B008  # frozen
    without_effect: Annotated[FlagsWithoutEffect, Parameter(name="*", group=_WITHOUT_EFFECT)] = FlagsWithoutEffect(),  # noqa: B008
) -> int:
    """Serves until SIGTERM or SIGINT."""
    if flags.version:
        print(f"TensorFlow ModelServer: Inferry's stand-in {version('inferry')}")
        print(f"TensorFlow Library: {version('tensorflow')}")
        return Exit.STOPPED
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="model server: %(message)s")
    # Blocked before the first thread starts, so that no thread of gRPC or TensorFlow takes the signal: a handler in Python
    # runs only once the main thread wakes, and nothing would wake it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    try:
        _serve(flags, without_effect.given())
    except StartError as error:
        print(f"model server: {error}", file=sys.stderr)
        return error.code
    return Exit.STOPPED


def _serve(flags: Flags, without_effect: Sequence[str]) -> None:
    _check(flags)
    if without_effect:
        _log.info("taken without effect here: %s", ", ".join(without_effect))
    prepare()
    with quiet_stderr():
        from deploy.local.model_server.serving import Serving  # tensorflow: only after `prepare`
    server = Serving(flags)
    try:
        server.load(keep_waiting=lambda: not _told_to_stop())
        if not _told_to_stop():
            server.listen()
            print(_ready(flags, server.catalogue.available()), flush=True)
            signal.sigwait(_STOP)
    finally:
        server.close(_GRACE_SECONDS)


def _told_to_stop() -> bool:
    return bool(signal.sigpending() & _STOP)


def _check(flags: Flags) -> None:
    """Finds a port that is taken now rather than after the models are loaded."""
    if flags.use_alts_credentials:
        raise StartError(
            Exit.USAGE, "--use_alts_credentials works on Google's cloud only; --ssl_config_file gives TLS."
        )
    if not (flags.port or flags.rest_api_port or flags.grpc_socket_path):
        raise StartError(Exit.USAGE, "both --port and --rest_api_port are 0: there is nothing to serve on.")
    for flag, port in (("--port", flags.port), ("--rest_api_port", flags.rest_api_port)):
        if port:
            _check_free(flag, flags.bind_address, port)


def _check_free(flag: str, address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            raise StartError(
                Exit.UNAVAILABLE,
                f"cannot listen on {address}:{port} ({error}): stop what uses that port, or choose another"
                f" with {flag}.",
            ) from error


def _ready(flags: Flags, available: dict[str, list[int]]) -> str:
    served = ", ".join(f"{model} version {number}" for model, numbers in available.items() for number in numbers)
    tls = " with TLS" if flags.ssl_config_file else ""
    places = [f"gRPC on {flags.bind_address}:{flags.port}{tls}"] if flags.port else []
    if flags.grpc_socket_path:
        places.append(f"gRPC on {flags.grpc_socket_path}{tls}")
    if flags.rest_api_port:
        places.append(f"REST on http://{flags.bind_address}:{flags.rest_api_port}/v1/models")
    return f"model server: ready, {' and '.join(places)}, for this machine only; serves {served}"


def main() -> None:
    """The program."""
    code = app() or Exit.STOPPED  # --help returns nothing
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # sys.exit would wait for the thread of a request that outlasts the grace period


if __name__ == "__main__":
    main()
