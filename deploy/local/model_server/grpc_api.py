"""PredictionService and ModelService over gRPC, by the official stubs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2, predict_pb2
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from deploy.local.model_server.catalogue import Catalogue
from deploy.local.model_server.manager import Manager
from deploy.local.model_server.monitoring import Monitoring
from deploy.local.model_server.servable import DEFAULT_SIGNATURE, check_inputs
from deploy.local.model_server.status import StatusError, invalid_argument
from deploy.local.model_server.tensors import Array, from_proto, to_proto

# ruff: noqa: N802  # the methods bear the names the protocol gives them

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),  # model_servers/server.cc sets no limit either
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a port shared
]


def grpc_server(
    catalogue: Catalogue,
    manager: Manager,
    monitoring: Monitoring,
    *,
    threads: int,
    as_content: bool,
    arguments: str = "",
) -> grpc.Server:
    """A server with both services, not bound to a port yet and not started.

    `arguments` are `--grpc_channel_arguments`. Raises ValueError when they have another form."""
    options = [*_OPTIONS, *_channel_arguments(arguments)]
    server = grpc.server(ThreadPoolExecutor(threads, "grpc"), options=options)
    add_PredictionServiceServicer_to_server(PredictionService(catalogue, monitoring, as_content=as_content), server)
    add_ModelServiceServicer_to_server(ModelService(catalogue, manager), server)
    return server


class PredictionService(PredictionServiceServicer):  # type: ignore[misc]  # the stubs ship no types
    """Predict and GetModelMetadata; Classify, Regress and MultiInference answer UNIMPLEMENTED."""

    def __init__(self, catalogue: Catalogue, monitoring: Monitoring, *, as_content: bool) -> None:
        self._catalogue = catalogue
        self._monitoring = monitoring
        self._as_content = as_content

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """servables/tensorflow/predict_impl.cc."""
        try:
            with self._monitoring.request(request.model_spec.name, "Predict", "GRPC"):
                return predict(self._catalogue, request, as_content=self._as_content)
        except StatusError as error:
            _abort(context, error)

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """servables/tensorflow/get_model_metadata_impl.cc."""
        try:
            return model_metadata(self._catalogue, request)
        except StatusError as error:
            _abort(context, error)


class ModelService(ModelServiceServicer):  # type: ignore[misc]  # the stubs ship no types
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, catalogue: Catalogue, manager: Manager) -> None:
        self._catalogue = catalogue
        self._manager = manager

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """model_servers/get_model_status_impl.cc."""
        try:
            return model_status(self._catalogue, request)
        except StatusError as error:
            _abort(context, error)

    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """model_servers/model_service_impl.cc."""
        try:
            self._manager.reload(request.config, keep_waiting=context.is_active)
        except StatusError as error:
            _abort(context, error)
        return model_management_pb2.ReloadConfigResponse()


def predict(
    catalogue: Catalogue, request: predict_pb2.PredictRequest, *, as_content: bool = False
) -> predict_pb2.PredictResponse:
    """Answers a Predict request. Raises StatusError."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec = request.model_spec
    with catalogue.acquire(spec) as (version, servable):
        signature = servable.signature(spec.signature_name)
        check_inputs(signature, list(request.inputs))
        inputs: dict[str, Array] = {}
        for alias, tensor in request.inputs.items():
            try:
                inputs[alias] = from_proto(tensor)
            except ValueError as error:
                raise invalid_argument(f"tensor parsing error: {alias}") from error
        outputs = servable.run(spec.signature_name, inputs, list(request.output_filter))
        reply = predict_pb2.PredictResponse()
        reply.model_spec.name = spec.name
        reply.model_spec.version.value = version
        reply.model_spec.signature_name = spec.signature_name or DEFAULT_SIGNATURE
        for alias, array in outputs.items():
            reply.outputs[alias].CopyFrom(to_proto(array, signature.outputs[alias].dtype, as_content=as_content))
        return reply


def model_metadata(
    catalogue: Catalogue, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers a GetModelMetadata request: the signatures. Raises StatusError."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != "signature_def":
            raise invalid_argument(f"Metadata field {name} is not supported")
    with catalogue.acquire(request.model_spec) as (version, servable):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
    reply = get_model_metadata_pb2.GetModelMetadataResponse()
    reply.model_spec.name = request.model_spec.name
    reply.model_spec.version.value = version
    reply.metadata["signature_def"].Pack(signatures)
    return reply


def model_status(
    catalogue: Catalogue, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers a GetModelStatus request; a version label in it is ignored, as in TensorFlow Serving.

    Raises StatusError.
    """
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    reply = get_model_status_pb2.GetModelStatusResponse()
    for number, state, error in catalogue.states(spec.name, version):
        entry = reply.model_version_status.add(version=number, state=int(state))
        entry.status.error_code = error.code.value[0] if error else 0
        if error:
            entry.status.error_message = error.message
    return reply


def _channel_arguments(text: str) -> Iterator[tuple[str, int | str]]:
    """model_servers/server.cc: a value that reads as a number is one."""
    for argument in filter(None, text.split(",")):
        key, equals, value = argument.partition("=")
        if not equals:
            raise ValueError(f"{argument!r} is not of the form key=value")
        try:
            yield key, int(value)
        except ValueError:
            yield key, value


def _abort(context: grpc.ServicerContext, error: StatusError) -> NoReturn:
    context.abort(error.code, error.grpc_message)
    raise AssertionError("abort always raises")
