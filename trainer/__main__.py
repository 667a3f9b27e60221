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
from trainer.options import PLAIN, Config, Count, DataChoice, DataDir, Models, Name, Training
from trainer.terminal import ERR

CONFIG_FILE = "models.config"

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
    from trainer.commands.train import show

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
    from trainer.commands.tokens import show

    show(text, models / name, vocabulary)


@app.command(name="list")
def list_(*, models: Models = Path("models"), name: Name = "sentiment_classifier", config: Config = None) -> None:
    """List the versions: figures, vocabularies, and which labels point at them."""
    from trainer.commands.versions import show_list

    show_list(models / name, config or models / CONFIG_FILE)


@app.command
def compare(
    a: int,
    b: int,
    *,
    models: Models = Path("models"),
    name: Name = "sentiment_classifier",
    data: DataChoice = "auto",
    data_dir: DataDir = None,
    differences: Annotated[int, Parameter(help="Show so many of the reviews they differ most on.")] = 10,
) -> None:
    """Compare versions A and B on the held-out reviews: accuracy, agreement, McNemar's test, time."""
    from trainer.commands.compare import show

    show(models / name, a, b, data, data_dir, differences)


@app.command
def quality(
    version: int | None = None,
    *,
    models: Models = Path("models"),
    name: Name = "sentiment_classifier",
    data: DataChoice = "auto",
    data_dir: DataDir = None,
    output: Annotated[Path, Parameter(help="Folder that QUALITY.md and quality.json are written to.")] = Path(),
) -> None:
    """Measure VERSION, else the newest: how good it is, where, and what moves its scores. Trains one where there is none."""
    from trainer.commands.quality import show

    show(models / name, version, data, data_dir, output)


@app.command
def promote(
    version: int,
    *,
    label: Annotated[str, Parameter(help="For instance stable or canary.")],
    models: Models = Path("models"),
    name: Name = "sentiment_classifier",
    config: Config = None,
    server_path: Annotated[
        str | None, Parameter(help="The model's folder as the server sees it, such as /models/sentiment_classifier.")
    ] = None,
    server: Annotated[
        str | None, Parameter(help="host:port of a model server's gRPC, to ask for a reload now.")
    ] = None,
) -> None:
    """Point a version label at VERSION: in the server's configuration file, and in a running server."""
    from trainer.commands.versions import promote

    promote(models / name, version, label, config or models / CONFIG_FILE, server_path, server)


@app.command
def prune(
    *,
    keep: Annotated[Count, Parameter(help="Keep so many of the newest versions, and those that bear a label.")],
    models: Models = Path("models"),
    name: Name = "sentiment_classifier",
    config: Config = None,
    dry_run: Annotated[bool, Parameter(help="Only say what would be deleted.")] = False,
) -> None:
    """Delete old versions."""
    from trainer.commands.versions import prune

    prune(models / name, keep, config or models / CONFIG_FILE, dry_run=dry_run)


@app.command
def import_tokenizer(
    pickled: Path,
    *,
    output: Annotated[Path | None, Parameter(help="The vocabulary file to write. Else beside the pickle.")] = None,
) -> None:
    """Convert a pickled tfds tokenizer to a vocabulary file. Nothing in the pickle is run."""
    from trainer.commands.tokens import import_pickled

    import_pickled(pickled, output or pickled.with_suffix(".subwords"))


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
