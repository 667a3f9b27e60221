"""`inferry-local up | down | status | logs | kafka | demo`: the one-machine stack from a terminal.

Everything it writes is below `.inferry/` in the current folder, except the model, which is below `models/`.
"""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from rich.table import Table

from deploy.local import running
from deploy.local.broker import JARS
from deploy.local.errors import DiskFull, ExitCode, LocalError, NotRunning, ProcessDied
from deploy.local.jars import ensure_jars
from deploy.local.models import MODELS, ensure_model
from deploy.local.running import STATE, Description
from deploy.local.stack import Ports, Stack
from deploy.local.terminal import console, steps

WATCH_SECONDS = 0.5
DETACHED_START_SECONDS = 300

app = App(
    name="inferry-local",
    help="The one-machine stack: Apache Kafka, the model server and the worker, without root or Docker.",
    version_flags=[],
    default_parameter=Parameter(negative="", show_default=False),
    result_action="return_value",
)
PortFlags = Annotated[Ports, Parameter(name="*")]


@app.command
def up(*, detach: bool = False, models: Path = MODELS, ports: PortFlags = Ports()) -> int:  # noqa: B008  frozen
    """Starts the stack and keeps it running until Ctrl-C or `down`. Trains a model first where there is none.

    Parameters
    ----------
    detach
        Return once everything is ready; the stack goes on in the background.
    models
        The folder that holds sentiment_classifier/ and its versions.
    """
    _refuse_second()
    ensure_jars(JARS)  # both here rather than in the background, so that their progress is seen
    ensure_model(models)
    if detach:
        return _up_in_background(models, ports)
    with running.claimed(STATE), Stack(STATE, ports=ports, models=models) as stack:
        with steps(len(Stack.STEPS)) as on_step:
            stack.start(on_step)
        running.describe(STATE, stack.where)
        _show(stack.where)
        console.print("Ctrl-C stops it.")
        _watch(stack)
    return ExitCode.OK


@app.command
def kafka(*, port: int | None = None) -> int:
    """Starts only Kafka, with the topics, and keeps it running until Ctrl-C or `down`.

    Parameters
    ----------
    port
        9092, or any free one where that is taken, when not named; 0: any free one.
    """
    with running.claimed(STATE), Stack(STATE, ports=Ports(kafka_port=port)) as stack:
        with steps(1) as on_step:
            on_step("Kafka")
            stack.start_kafka()
        running.describe(STATE, stack.where)
        _show(stack.where)
        _watch(stack)
    return ExitCode.OK


@app.command
def down() -> int:
    """Stops the stack that runs in this folder. Topics and their records are kept."""
    with console.status("Stopping the stack"):
        process = running.stop_owner(STATE)
    console.print(f"Stopped the stack (process {process}). What is in Kafka's topics is kept in {STATE}/data.")
    return ExitCode.OK


@app.command
def status() -> int:
    """Says what runs in this folder, and where."""
    owner = running.owner(STATE)
    if owner is None:
        raise NotRunning("No stack runs in this folder. `inferry-local up --detach` starts one.")
    where = running.description(STATE)
    if where is None:
        console.print(f"The stack (process {owner}) is starting or stopping.")
    else:
        _show(where)
    return ExitCode.OK


@app.command
def logs(*, lines: int = 20, follow: bool = False) -> int:
    """Shows the last lines of every program's log.

    Parameters
    ----------
    lines
        How many of each.
    follow
        Go on showing what is added, until Ctrl-C.
    """
    files = sorted(str(path) for path in (STATE / "logs").glob("*.log"))
    if not files:
        raise NotRunning(f"There are no logs in {STATE}/logs: no stack has run in this folder yet.")
    return subprocess.run(["tail", "-n", str(lines), *(["-F"] if follow else []), "--", *files], check=False).returncode  # noqa: S607


@app.command
def demo(*, reviews: int = 10_000, models: Path = MODELS) -> int:
    """The main job from beginning to end: pushes real reviews through a stack of its own and shows what comes out.

    Parameters
    ----------
    reviews
        How many to push, at most 25,000.
    models
        The folder that holds sentiment_classifier/ and its versions; one is trained where there is none.
    """
    from deploy.local.demo import run

    run(STATE, models, reviews)
    return ExitCode.OK


def _refuse_second() -> None:
    with running.claimed(STATE):
        pass


def _up_in_background(models: Path, ports: Ports) -> int:
    """Runs `up` again as a process of its own and waits until it is ready or has failed."""
    named = [f"--{name.replace('_', '-')}={port}" for name, port in asdict(ports).items() if port is not None]
    command = [sys.executable, "-m", "deploy.local", "up", f"--models={models}", *named]
    log = STATE / "logs" / "stack.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + DETACHED_START_SECONDS
    with console.status("Starting Kafka, the model server and the worker"):
        while (where := running.description(STATE)) is None:
            if process.poll() is not None:
                print(log.read_text("utf-8", errors="replace").strip(), file=sys.stderr)
                return process.returncode
            if time.monotonic() > deadline:
                process.terminate()
                raise ProcessDied(f"The stack was not ready within {DETACHED_START_SECONDS} s. Logs: {STATE}/logs")
            time.sleep(WATCH_SECONDS / 5)
    _show(where)
    console.print(
        "It runs in the background; `inferry-local down` stops it. Try:\n"
        '  inferry-producer push --text "That movie i saw the other day was fantabulous"\n'
        "  inferry-producer results --follow"
    )
    return ExitCode.OK


def _watch(stack: Stack) -> None:
    """Blocks until SIGINT or SIGTERM; raises ProcessDied when a program of the stack ends before that."""
    try:
        while True:
            stack.check()
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        console.print("Stopping the stack")


def _show(where: Description) -> None:
    table = Table(box=None, show_header=False)
    names = {
        "bootstrap": "Kafka",
        "grpc": "Model server, gRPC",
        "rest": "Model server, REST",
        "status": "Worker's status page",
        "metrics": "Worker's metrics",
    }
    for field, address in msgspec.to_builtins(where).items():
        if field not in ("pids", "notes"):
            table.add_row(names.get(field, field.capitalize()), address)
    table.add_row("Processes", ", ".join(f"{name} {pid}" for name, pid in where.pids.items()))
    console.print(table)
    for note in where.notes:
        console.print(note)


@contextmanager
def _disk_full_is_a_sentence() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFull(
            f"The disk is full: cannot write {error.filename or 'a file'}. Make room and try again."
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM stops everything in order, as Ctrl-C does
    try:
        with _disk_full_is_a_sentence():
            return int(app(arguments) or ExitCode.OK)
    except LocalError as error:
        print(f"inferry-local: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("inferry-local: interrupted; everything it started has been stopped", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
