"""The model servers that a bench runs against, each a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.support.model_server import running_model_server


class Server(msgspec.Struct, frozen=True):
    """One of them."""

    grpc_target: str
    rest_url: str
    """Empty where it speaks no REST."""
    pid: int


@contextlib.contextmanager
def real_model(model: Path) -> Iterator[Server]:
    """The one-machine model server with every version beside `model`, the folder of one."""
    with running_model_server(model.parent) as handle:
        yield Server(handle.grpc_target, handle.rest_url, handle.pid)


@contextlib.contextmanager
def null_model(model: Path) -> Iterator[Server]:
    """See tests.bench.null_model."""
    command = [sys.executable, "-m", "tests.bench.null_model", str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("both were asked for")
        address = process.stdout.readline().strip()
        if not address:
            raise SystemExit("the null model did not start")
        try:
            yield Server(address, "", process.pid)
        finally:
            process.stdin.close()
