"""`inferry-worker run | config`: settings in, exit code out. No logic lives here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from worker.channel import Tell, to_nobody
from worker.clock import SystemClock
from worker.cores import process_count
from worker.errors import ExitCode, WorkerError
from worker.memory import collect_less_often, return_freed_memory
from worker.observability.logs import configure
from worker.settings import Settings, load
from worker.signals import StopWorker, on_stop_signals

COMMANDS = ("run", "config")
HELP = """usage: inferry-worker [run | config] [--SETTING VALUE ...]

  run       score the input topic until stopped (the default)
  config    print the settings in force, secrets redacted, and stop

inferry-worker run --help lists every setting. Each is also an environment variable, INFERRY_ and its name in capitals
with underscores, a file of that name in the folder that INFERRY_SECRETS_DIR names, and a key of the TOML file that
INFERRY_CONFIG names: flag > environment > folder > file > default.

exit codes: """ + ", ".join(f"{code.value} {code.name.lower().replace('_', '-')}" for code in ExitCode)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        print(HELP)
        return ExitCode.OK
    command = words.pop(0) if words and not words[0].startswith("-") else "run"
    if command not in COMMANDS:
        print(f"inferry-worker: no such command: {command}. There are: {', '.join(COMMANDS)}", file=sys.stderr)
        return ExitCode.USAGE
    try:
        settings = load(words)
        return _print(settings) if command == "config" else _run(settings)
    except WorkerError as error:
        print(f"inferry-worker: {error}", file=sys.stderr)
        return error.exit_code


def _print(settings: Settings) -> int:
    for name, value in settings.redacted().items():
        print(f"{name.replace('_', '-')} = {value!r}")
    from worker.text import subword_encoder_name

    if settings.processes == "auto":
        print(f"# processes on this machine: {process_count(settings.processes)}")
    # Without a compiler at its installation a worker works, at ten times the cost for each review's encoding.
    print(f"# subwords are encoded by: {subword_encoder_name()}")
    return ExitCode.OK


def _run(settings: Settings) -> int:
    count = process_count(settings.processes)
    return run_worker(settings, on_stop_signals) if count == 1 else _run_several(settings, count)


def _run_several(settings: Settings, count: int) -> int:
    return_freed_memory()
    configure(settings.log_level, settings.log_format, process="supervisor")
    from worker.processes import Supervisor

    supervisor = Supervisor(settings, count, SystemClock())
    on_stop_signals(supervisor.stop)
    return supervisor.run()


def run_worker(
    settings: Settings, listen: Callable[[StopWorker], None], tell: Tell = to_nobody, *, process: str = ""
) -> int:
    """Runs one worker in this process and returns its exit code. `listen` is given what stops it; of several, it is the one
    named `process` and reports to its parent by `tell`. Raises WorkerError."""
    return_freed_memory()
    configure(settings.log_level, settings.log_format, process=process)
    # Imported here: `config` and `--help` need neither Kafka nor gRPC, and answer at once without them.
    from worker.service import Service

    collect_less_often()

    service = Service(settings, tell)
    listen(service.stop)
    return ExitCode.OK if service.run() else ExitCode.STOPPED_HARD


if __name__ == "__main__":
    sys.exit(main())
