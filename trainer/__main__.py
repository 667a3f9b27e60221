"""`inferry-trainer`: puts the commands together and maps their errors to exit codes. No logic.

Commands import what they need when they run: TensorFlow takes seconds to load, and `--help` should not."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from trainer.errors import ExitCode, TrainerError
from trainer.options import PLAIN, Models, Name, Training
from trainer.terminal import ERR

app = App(
    name="inferry-trainer",
    help="Train the sentiment model, look at it, and manage its versions.",
    default_parameter=PLAIN,
)


@app.command
def train(
    *,
    models: Models = Path("models"),
    name: Name = "sentiment_classifier",
    training: Annotated[Training, Parameter(name="*")] = Training(),  # noqa: B008  frozen
) -> None:
    """Train on IMDb reviews and export a new version, with its vocabulary and a report to look at."""
    from trainer.train_command import show

    show(models / name, training)


@app.command
def tokens(
    text: str,
    *,
    models: Models = Path("models"),
    name: Name = "sentiment_classifier",
    vocabulary: Annotated[Path | None, Parameter(help="A .subwords file, in place of the newest version's.")] = None,
) -> None:
    """Encode TEXT, show its subwords one by one, and decode it again."""
    from trainer.tokens_command import show

    show(text, models / name, vocabulary)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; wrong usage ends in SystemExit(2)."""
    try:
        app(arguments, result_action="return_value")
        sys.stdout.flush()
    except TrainerError as error:
        ERR.print(Text(f"inferry-trainer: {error}"), soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output had enough, as `head` does. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


def main() -> None:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
