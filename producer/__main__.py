"""`inferry-producer`: puts the commands together and maps their errors to exit codes. No logic."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from cyclopts import App

from producer.commands.ask import ask
from producer.commands.dead_letters import app as dead_letters
from producer.commands.options import PLAIN
from producer.commands.push import push
from producer.commands.results import show_results
from producer.errors import ExitCode, ProducerError
from producer.terminal import complain

app = App(
    name="inferry-producer",
    help="Push reviews to Kafka, read their labels, look after dead letters.",
    default_parameter=PLAIN,
)
app.command(push)
app.command(show_results, name="results")
app.command(dead_letters)
app.command(ask)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; wrong usage ends in SystemExit(2)."""
    try:
        code = app(arguments, result_action="return_value")
        sys.stdout.flush()
    except ProducerError as error:
        complain(f"inferry-producer: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output had enough, as `head` does. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    return code if isinstance(code, int) else ExitCode.OK


def main() -> None:
    """The console script."""
    # The client retries and tells its log why; what matters in the end reaches us as an exception.
    logging.getLogger("kafka").propagate = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 shows less, but no traceback
    sys.exit(run())


if __name__ == "__main__":
    main()
