"""The settings' model: opens the gRPC adapter. `make_encoder` makes the encoder of each version it meets."""

from __future__ import annotations

from dataclasses import replace

from worker.ports import Clock, Events
from worker.serving.client import EncoderFactory, GrpcModel
from worker.serving.options import Options
from worker.settings import Settings
from worker.silent_events import SilentEvents


def make_model(settings: Settings, make_encoder: EncoderFactory, events: Events, clock: Clock) -> GrpcModel:
    """A model of which nothing is asked yet: its first `refresh` does. Raises ConfigError."""
    return GrpcModel(options(settings), make_encoder, events, clock)


def open_model(settings: Settings, make_encoder: EncoderFactory, events: Events, clock: Clock) -> GrpcModel:
    """A model whose first version is known and fits.

    Raises ServingUnavailable while the server or the version is not there, ModelMismatch, ConfigError."""
    model = make_model(settings, make_encoder, events, clock)
    try:
        model.refresh()
    except BaseException:
        model.close()
        raise
    return model


def open_shadow(settings: Settings, make_encoder: EncoderFactory, clock: Clock) -> GrpcModel:
    """The version that scores in the shadow. Nothing is asked of it yet: it may not be there."""
    # Its versions, calls and outages must not be counted as the worker's own.
    return GrpcModel(replace(options(settings), version=settings.shadow), make_encoder, SilentEvents(), clock)


def options(settings: Settings) -> Options:
    """What the settings say of the model server."""
    return Options(
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
        tls=settings.serving_tls,
        ca_file=settings.serving_ca_file,
        cert_file=settings.serving_cert_file,
        key_file=settings.serving_key_file,
        server_name=settings.serving_server_name,
        token_file=settings.serving_token_file,
    )
