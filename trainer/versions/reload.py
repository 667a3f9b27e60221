"""Asks a model server to take a configuration: ModelService.HandleReloadConfigRequest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import grpc

from protos.serving.model_config_pb2 import ModelServerConfig, ReloadConfigRequest, ReloadConfigResponse
from trainer.errors import ServerUnavailable

RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
REQUEST_SECONDS = 30.0
LOADING_SECONDS = 60.0
POLL_SECONDS = 0.3
_NOT_LOADED = grpc.StatusCode.FAILED_PRECONDITION


def reload(server: str, config: ModelServerConfig, preparations: Sequence[ModelServerConfig]) -> None:
    """Returns once the server at `server` (host:port of its gRPC) uses `config`. Safe to repeat.

    TensorFlow Serving refuses a configuration, whole, whose labels name versions that it has not loaded yet
    (ServerCore::ReloadConfig looks at labels first). Then the first of `preparations` that it takes is sent, which makes it
    load them, and `config` again for up to `LOADING_SECONDS`. Raises ServerUnavailable with the server's own words."""
    with grpc.insecure_channel(server) as channel:
        call = channel.unary_unary(RELOAD)
        try:
            refusal = _ask(call, config)
            if refusal:
                any(not _ask(call, preparation) for preparation in preparations)
            deadline = time.monotonic() + LOADING_SECONDS
            while refusal and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                refusal = _ask(call, config)
        except grpc.RpcError as error:
            said = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
            raise ServerUnavailable(f"the model server at {server} did not take the configuration: {said}") from error
    if refusal:
        raise ServerUnavailable(
            f"the model server at {server} still refuses the configuration after {LOADING_SECONDS:g} s: {refusal}"
        )


def _ask(call: Callable[..., bytes], config: ModelServerConfig) -> str:
    """Empty when the server took it, its words when a label's version is not loaded. Raises grpc.RpcError otherwise."""
    try:
        reply = call(ReloadConfigRequest(config=config).SerializeToString(), timeout=REQUEST_SECONDS)
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is _NOT_LOADED:
            return str(error.details())
        raise
    status = ReloadConfigResponse.FromString(reply).status
    return str(status.error_message) if status.error_code else ""
