"""`python -m deploy.local.model_server`: starts, says when it is ready, and stops on SIGTERM or SIGINT.

Exit codes: see `exits`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from typing import Annotated

from cyclopts import App, Parameter

from deploy.local.model_server.exits import Exit, StartError
from deploy.local.model_server.flags import Flags
from deploy.local.model_server.runtime import prepare, quiet_stderr

_GRACE_SECONDS = 5.0
_STOP = {signal.SIGTERM, signal.SIGINT}
_log = logging.getLogger(__name__)

app = App(
    name="python -m deploy.local.model_server",
    help="TensorFlow Serving's stand-in on one machine. It is for one machine only: it listens on 127.0.0.1 and has"
    " neither TLS nor batching; deploy/compose runs the official server.",
    version_flags=[],
    default_parameter=Parameter(name_transform=lambda name: name, negative=""),
    result_action="return_value",
)


@app.default
def serve(flags: Annotated[Flags, Parameter(name="*")] = Flags()) -> int:  # noqa: B008  # frozen
    """Serves until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="model server: %(message)s")
    # Blocked before the first thread starts, so that no thread of gRPC or TensorFlow takes the signal: a handler in Python
    # runs only once the main thread wakes, and nothing would wake it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    try:
        _serve(flags)
    except StartError as error:
        print(f"model server: {error}", file=sys.stderr)
        return error.code
    return Exit.STOPPED


def _serve(flags: Flags) -> None:
    _check(flags)
    prepare()
    with quiet_stderr():
        from deploy.local.model_server.serving import Serving  # tensorflow: only after `prepare`
    if flags.enable_batching or flags.batching_parameters_file:
        _log.info("--enable_batching and --batching_parameters_file are ignored: requests run as they come")
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
    if not flags.port and not flags.rest_api_port:
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
    places = [f"gRPC on {flags.bind_address}:{flags.port}"] if flags.port else []
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
