"""Requests to a model server by the official stubs, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from tests.support.model_server import ServerHandle
from tests.support.model_server_models import tf

from tensorflow_serving.apis import get_model_status_pb2, predict_pb2  # isort: skip  # after tf, which imports quietly
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc  # isort: skip


@contextmanager
def prediction_stub(server: ServerHandle) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc_target) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@contextmanager
def model_service_stub(server: ServerHandle) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc_target) as channel:
        yield model_service_pb2_grpc.ModelServiceStub(channel)


def request(name: str, signature: str = "", output_filter: Sequence[str] = (), **inputs: Any) -> Any:
    """A PredictRequest with these inputs, as arrays or nested lists."""
    message = predict_pb2.PredictRequest(output_filter=output_filter)
    message.model_spec.name = name
    message.model_spec.signature_name = signature
    for alias, value in inputs.items():
        message.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return message


def with_version(message: Any, number: int) -> Any:
    message.model_spec.version.value = number
    return message


def with_label(message: Any, label: str) -> Any:
    message.model_spec.version_label = label
    return message


def refused(call: Any, message: Any) -> tuple[grpc.StatusCode, str]:
    """Status and words of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message)
    return caught.value.code(), caught.value.details()


def states(stub: Any, name: str) -> dict[int, str]:
    """The state of every version the server ever saw, by name."""
    message = get_model_status_pb2.GetModelStatusRequest()
    message.model_spec.name = name
    versions = stub.GetModelStatus(message).model_version_status
    return {version.version: type(version).State.Name(version.state) for version in versions}
