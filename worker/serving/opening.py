"""The settings' model: opens the gRPC adapter and gives it encoders made from each version's own vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from worker.ports import Clock, Events
from worker.records import BuiltEncoder, EncoderKind, EncoderSpec
from worker.serving.client import GrpcModel
from worker.serving.options import ServingOptions
from worker.settings import Settings
from worker.text.encoders import TextEncoder, WordPieceEncoder
from worker.text.subwords import SubwordEncoder, Vocabulary


def make_model(settings: Settings, events: Events, clock: Clock) -> GrpcModel:
    """A model of which nothing is asked yet: its first `refresh` does. Raises ConfigError."""
    return GrpcModel(options(settings), build_encoder, events, clock)


def open_model(settings: Settings, events: Events, clock: Clock) -> GrpcModel:
    """A model whose first version is known and fits.

    Raises ServingUnavailable while the server or the version is not there, ModelMismatch, ConfigError."""
    model = make_model(settings, events, clock)
    try:
        model.refresh()
    except BaseException:
        model.close()
        raise
    return model


def open_shadow(settings: Settings, clock: Clock) -> GrpcModel:
    """The version that scores in the shadow. Nothing is asked of it yet: it may not be there."""
    # Its versions, calls and outages must not be counted as the worker's own.
    silent = cast("Events", _Silent())
    return GrpcModel(replace(options(settings), version=settings.shadow), build_encoder, silent, clock)


class _Silent:
    """Events that nobody hears."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_arguments, **_named: None


def options(settings: Settings) -> ServingOptions:
    """What the settings say of the model server."""
    return ServingOptions(
        target=settings.serving,
        model=settings.model,
        signature=settings.signature,
        version=settings.version,
        request_timeout_seconds=settings.request_timeout_seconds,
        max_requests=settings.max_requests,
        poll_seconds=settings.model_poll_seconds,
        input_name=settings.input_name,
        output_name=settings.output_name,
        labels=settings.label_names,
        threshold=settings.threshold,
        max_tokens=settings.max_tokens,
        logits=settings.logits,
        vocabulary_file=settings.vocabulary,
        padding_id=settings.padding_id,
        ca_file=settings.serving_ca_file,
        cert_file=settings.serving_cert_file,
        key_file=settings.serving_key_file,
    )


def build_encoder(spec: EncoderSpec) -> BuiltEncoder:
    """The encoder of one model version. Raises ConfigError or ValueError for a vocabulary that cannot be read."""
    if spec.kind is EncoderKind.TEXT:
        return BuiltEncoder(TextEncoder())
    if spec.kind is EncoderKind.WORDPIECE:
        encoder = WordPieceEncoder(spec)
        return BuiltEncoder(encoder, encoder.vocabulary_size, encoder.digest)
    vocabulary = Vocabulary.parse(spec.vocabulary) if spec.vocabulary else Vocabulary(spec.subwords)
    encoder_of_words = SubwordEncoder(
        vocabulary,
        max_tokens=spec.max_tokens,
        dtype=spec.dtype,
        padding_id=spec.padding_id,
        length=spec.length,
    )
    return BuiltEncoder(encoder_of_words, vocabulary.size, vocabulary.digest)
