"""The command `ask`: its options, and what it prints."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from rich.text import Text

from producer.errors import ExitCode, UsageError
from producer.terminal import COLOURS, OUT, safe


def ask(
    *texts: Annotated[str, Parameter(help="Texts to ask about; -- before one that begins with a dash.")],
    serving: Annotated[
        str | None,
        Parameter(
            show_default="INFERRY_SERVING, else the running `inferry-local` stack, else localhost:8500",
            help="The model server's gRPC address.",
        ),
    ] = None,
    model: Annotated[str | None, Parameter(show_default="sentiment_classifier", help="The model's name.")] = None,
    version: Annotated[
        str | None, Parameter(show_default="newest", help="newest, a number, or a label such as stable.")
    ] = None,
    output: Annotated[Literal["text", "json"], Parameter(alias="-o", help="json: one object a line.")] = "text",
) -> int:
    """Ask the served model about a text directly, without Kafka.

    The worker's other settings for the model (INFERRY_SIGNATURE, INFERRY_VOCABULARY, …) hold here too."""
    # Imports gRPC, which the commands for Kafka should not wait for.
    from producer.ask import ask as ask_model

    if not texts:
        raise UsageError('Say what to ask about: inferry-producer ask "That movie was fantastic".')
    named = {"--serving": serving, "--model": model, "--version": version}
    answers = ask_model(texts, [part for flag, value in named.items() if value for part in (flag, value)])
    for answer in answers:
        if output == "json":
            sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
            continue
        line = Text(f"{safe(answer.label):<10}", style=COLOURS.get(answer.label, ""))
        cut = ", cut" if answer.truncated else ""
        tokens = f"{answer.tokens} tokens{cut}, {answer.model_name} {answer.model_version}"
        line.append_text(
            Text(f" {answer.score:.4f}  {safe(answer.text)}  ", style="").append(f"({tokens})", style="dim")
        )
        OUT.print(line, soft_wrap=True)
    return ExitCode.OK
