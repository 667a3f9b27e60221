"""Asks a model server to take a configuration: ModelService.HandleReloadConfigRequest."""

from __future__ import annotations

import grpc
import stamina

from protos.serving.model_config_pb2 import ModelServerConfig, ReloadConfigRequest, ReloadConfigResponse
from trainer.errors import ServerUnavailable

RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
REQUEST_SECONDS = 30.0
LOADING_SECONDS = 60.0


class _NotLoadedYet(Exception):
    """The server has not loaded a version that bears a label."""


def reload(server: str, config: ModelServerConfig) -> None:
    """Returns once the server at `server` (host:port of its gRPC) uses `config`. Safe to repeat.

    TensorFlow Serving starts to load what is new and refuses a label for a version that is not loaded yet, so a refusal
    (FAILED_PRECONDITION) is asked again for `LOADING_SECONDS`. Raises ServerUnavailable with the server's own words."""
    request = ReloadConfigRequest(config=config).SerializeToString()
    with grpc.insecure_channel(server) as channel:
        call = channel.unary_unary(RELOAD)
        try:
            for attempt in stamina.retry_context(
                on=_NotLoadedYet, timeout=LOADING_SECONDS, attempts=None, wait_max=2.0
            ):
                with attempt:
                    _ask(call, request)
        except grpc.RpcError as error:
            said = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
            raise ServerUnavailable(f"the model server at {server} did not take the configuration: {said}") from error
        except _NotLoadedYet as error:
            raise ServerUnavailable(
                f"the model server at {server} still refuses the configuration after {LOADING_SECONDS:g} s: {error}"
            ) from error


def _ask(call: grpc.UnaryUnaryMultiCallable, request: bytes) -> None:
    try:
        reply = ReloadConfigResponse.FromString(call(request, timeout=REQUEST_SECONDS))
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.FAILED_PRECONDITION:
            raise _NotLoadedYet(error.details()) from error
        raise
    if reply.status.error_code == grpc.StatusCode.FAILED_PRECONDITION.value[0]:
        raise _NotLoadedYet(reply.status.error_message)
    if reply.status.error_code:
        raise ServerUnavailable(f"the model server did not take the configuration: {reply.status.error_message}")
