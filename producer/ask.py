"""Asks the served model about a text directly: text → tokens → model → label and score, over gRPC, without Kafka.

The parts are the worker's own, so the answer is the one the worker would give.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from producer.connection import stack_address
from producer.errors import BadInput, ConnectionConfigError, Unavailable
from worker.clock import SystemClock
from worker.errors import ConfigError, ModelMismatch, ServingRejected, WorkerError
from worker.pipeline.labelling import choose, per_label, probabilities
from worker.serving import open_model
from worker.settings import load
from worker.silent_events import SilentEvents
from worker.text import build_encoder


class Answer(msgspec.Struct, frozen=True):
    """What the model says of one text."""

    text: str
    label: str
    score: float
    """Of the second label for a model with one output, of `label` for one with several."""
    scores: dict[str, float]
    """Every label's score."""
    model_name: str
    model_version: int
    tokens: int
    truncated: bool
    """Whether tokens beyond the model's limit were cut off."""


def ask(texts: Sequence[str], flags: Sequence[str] = ()) -> list[Answer]:
    """The model's answers, in order. `flags` are the worker's (`--serving`, `--model`, `--version`, …); its environment
    and settings file count too. Without an address given there, the running one-machine stack's is used.

    Raises BadInput for a text that is empty or that the model rejects, Unavailable, ConnectionConfigError."""
    if any(not text.strip() for text in texts):
        raise BadInput("There is nothing to ask about in an empty text.")
    try:
        return _ask(texts, [*flags, *_stack_flags(flags)])
    except ServingRejected as error:
        raise BadInput(f"The model rejects the text: {error}") from error
    except (ConfigError, ModelMismatch) as error:
        raise ConnectionConfigError(str(error)) from error
    except WorkerError as error:
        told = str(error).rstrip(".")
        raise Unavailable(f"{told}. `inferry-local up` starts a model server; --serving names another.") from error


def _ask(texts: Sequence[str], flags: Sequence[str]) -> list[Answer]:
    settings = load(flags)
    model = open_model(settings, build_encoder, SilentEvents(), SystemClock())
    try:
        served = model.current()
        rows = served.encoder.encode_many(texts)
        calls = [model.predict(served, rows.tensor([row], tokens)) for row, tokens in enumerate(rows.tokens)]
        answers = []
        for row, (text, tokens, call) in enumerate(zip(texts, rows.tokens, calls, strict=True)):
            scores = probabilities(call.result()[0], logits=settings.logits)
            label, score = choose(scores, served)
            by_label = dict(zip(served.labels, per_label(scores), strict=True))
            truncated = rows.is_truncated(row)
            answers.append(Answer(text, label, score, by_label, served.name, served.version, tokens, truncated))
        return answers
    finally:
        model.close()


def _stack_flags(flags: Sequence[str]) -> list[str]:
    named = any(flag.partition("=")[0] == "--serving" for flag in flags)
    if named or "INFERRY_SERVING" in os.environ or "INFERRY_CONFIG" in os.environ:
        return []
    address = stack_address("grpc")
    return ["--serving", address] if address else []
