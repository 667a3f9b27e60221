"""Our messages against the official classes of tensorflow-serving-api: the same bytes, both ways, in one process."""

from __future__ import annotations

import struct
import warnings
from typing import Any

import pytest
from google.protobuf import descriptor
from google.protobuf.message import Message

from protos.serving import model_config_pb2, model_status_pb2, prediction_pb2, tensor_pb2

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TensorFlow's own, at import
    from tensorflow.core.framework import tensor_pb2 as official_tensor
    from tensorflow.core.framework import types_pb2 as official_types
    from tensorflow.core.protobuf import meta_graph_pb2 as official_graph
    from tensorflow_serving.apis import get_model_metadata_pb2 as official_metadata
    from tensorflow_serving.apis import get_model_status_pb2 as official_status
    from tensorflow_serving.apis import model_management_pb2 as official_management
    from tensorflow_serving.apis import model_pb2 as official_model
    from tensorflow_serving.apis import predict_pb2 as official_predict
    from tensorflow_serving.apis import status_pb2 as official_status_proto
    from tensorflow_serving.config import file_system_storage_path_source_pb2 as official_storage
    from tensorflow_serving.config import model_server_config_pb2 as official_config

PAIRS: list[tuple[type[Message], Any]] = [
    (tensor_pb2.TensorProto, official_tensor.TensorProto),
    (tensor_pb2.TensorShapeProto, official_tensor.TensorProto().tensor_shape.__class__),
    (tensor_pb2.TensorShapeProto.Dim, official_tensor.TensorProto().tensor_shape.Dim),
    (prediction_pb2.ModelSpec, official_model.ModelSpec),
    (prediction_pb2.PredictRequest, official_predict.PredictRequest),
    (prediction_pb2.PredictResponse, official_predict.PredictResponse),
    (prediction_pb2.TensorInfo, official_graph.TensorInfo),
    (prediction_pb2.SignatureDef, official_graph.SignatureDef),
    (prediction_pb2.SignatureDefMap, official_metadata.SignatureDefMap),
    (prediction_pb2.GetModelMetadataRequest, official_metadata.GetModelMetadataRequest),
    (prediction_pb2.GetModelMetadataResponse, official_metadata.GetModelMetadataResponse),
    (model_status_pb2.GetModelStatusRequest, official_status.GetModelStatusRequest),
    (model_status_pb2.GetModelStatusResponse, official_status.GetModelStatusResponse),
    (model_status_pb2.ModelVersionStatus, official_status.ModelVersionStatus),
    (model_status_pb2.StatusProto, official_status_proto.StatusProto),
    (model_config_pb2.ServableVersionPolicy, official_storage.FileSystemStoragePathSourceConfig.ServableVersionPolicy),
    (
        model_config_pb2.ServableVersionPolicy.Latest,
        official_storage.FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest,
    ),
    (
        model_config_pb2.ServableVersionPolicy.Specific,
        official_storage.FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific,
    ),
    (model_config_pb2.ModelConfig, official_config.ModelConfig),
    (model_config_pb2.ModelConfigList, official_config.ModelConfigList),
    (model_config_pb2.ModelServerConfig, official_config.ModelServerConfig),
    (model_config_pb2.ReloadConfigRequest, official_management.ReloadConfigRequest),
    (model_config_pb2.ReloadConfigResponse, official_management.ReloadConfigResponse),
]


def wire_type(field: descriptor.FieldDescriptor) -> tuple[object, ...]:
    """What decides a field's bytes. An enum is an int32 on the wire."""
    kind = descriptor.FieldDescriptor.TYPE_INT32 if field.type == descriptor.FieldDescriptor.TYPE_ENUM else field.type
    return field.number, kind, field.is_repeated, field.is_packed, getattr(field.containing_oneof, "name", None)


@pytest.mark.parametrize(("ours", "official"), PAIRS, ids=lambda value: value.DESCRIPTOR.full_name)
def test_every_field_of_ours_is_the_official_one(ours: type[Message], official: Any) -> None:
    assert ours.DESCRIPTOR.full_name != official.DESCRIPTOR.full_name
    for field in ours.DESCRIPTOR.fields:
        assert wire_type(field) == wire_type(official.DESCRIPTOR.fields_by_name[field.name]), field.name


def test_the_numbers_of_the_enums_are_the_official_ones() -> None:
    states = model_status_pb2.ModelVersionStatus.State.items()

    assert states == official_status.ModelVersionStatus.State.items()
    assert set(tensor_pb2.DataType.items()) <= set(official_types.DataType.items())


def spec(module: Any, **fields: Any) -> Any:
    """A ModelSpec of ours or theirs with an explicit version."""
    message = module.ModelSpec(name="sentiment_classifier", **fields)
    message.version.value = 1_700_000_000
    return message


def fill_tensor(tensor: Any, **fields: Any) -> None:
    """Fields of a tensor of shape [2, 3]."""
    for size in (2, 3):
        tensor.tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)


CONTENTS = [
    {"dtype": 3, "tensor_content": struct.pack("<6i", 1, 2, 3, 4, 5, 6)},
    {"dtype": 9, "tensor_content": struct.pack("<6q", 1, 2, 3, 4, 5, -6)},
    {"dtype": 3, "int_val": [1, 2, 3, 4, 5, -6]},
    {"dtype": 9, "int64_val": [1, 2, 3, 4, 5, -6]},
    {"dtype": 7, "string_val": [b"", b"a", "é".encode(), b"\xff", b"\0", b"f"]},
    {"dtype": 1, "float_val": [0.0, 0.5, 0.25, 1.0, 1e-30, -1.5]},
    {"dtype": 1, "float_val": [0.5]},
    {"dtype": 1, "tensor_content": struct.pack("<6f", 0.0, 0.5, 0.25, 1.0, 1e-30, -1.5)},
    {"dtype": 2, "double_val": [0.0, 0.5, 0.25, 1.0, 1e-300, -1.5]},
    {"dtype": 2, "tensor_content": struct.pack("<6d", 0.0, 0.5, 0.25, 1.0, 1e-300, -1.5)},
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: f"{content['dtype']}-{list(content)[1]}")
def test_predict_requests_are_the_same_bytes(content: dict[str, Any]) -> None:
    ours = prediction_pb2.PredictRequest(
        model_spec=spec(prediction_pb2, signature_name="serving_default"), output_filter=["score"]
    )
    theirs = official_predict.PredictRequest(
        model_spec=spec(official_model, signature_name="serving_default"), output_filter=["score"]
    )
    fill_tensor(ours.inputs["tokens"], **content)
    fill_tensor(theirs.inputs["tokens"], **content)

    assert ours.SerializeToString() == theirs.SerializeToString()


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: f"{content['dtype']}-{list(content)[1]}")
def test_official_predict_replies_are_read_as_they_were_written(content: dict[str, Any]) -> None:
    theirs = official_predict.PredictResponse(model_spec=spec(official_model, signature_name="serving_default"))
    fill_tensor(theirs.outputs["score"], **content)

    ours = prediction_pb2.PredictResponse.FromString(theirs.SerializeToString())

    assert ours.model_spec.version.value == 1_700_000_000
    assert [dim.size for dim in ours.outputs["score"].tensor_shape.dim] == [2, 3]
    for name in content:
        assert getattr(ours.outputs["score"], name) == getattr(theirs.outputs["score"], name)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def test_status_requests_are_the_same_bytes_and_replies_are_read() -> None:
    ours = model_status_pb2.GetModelStatusRequest(model_spec=prediction_pb2.ModelSpec(name="m", version_label="stable"))
    theirs = official_status.GetModelStatusRequest(
        model_spec=official_model.ModelSpec(name="m", version_label="stable")
    )
    assert ours.SerializeToString() == theirs.SerializeToString()

    reply = official_status.GetModelStatusResponse()
    reply.model_version_status.add(version=2, state=official_status.ModelVersionStatus.AVAILABLE)
    broken = reply.model_version_status.add(version=1, state=official_status.ModelVersionStatus.END)
    broken.status.error_code = 5
    broken.status.error_message = "not there"
    read = model_status_pb2.GetModelStatusResponse.FromString(reply.SerializeToString())

    assert [(status.version, status.state) for status in read.model_version_status] == [(2, 30), (1, 50)]
    assert read.model_version_status[1].status.error_code == 5
    assert read.model_version_status[1].status.error_message == "not there"


def test_metadata_requests_are_the_same_bytes_and_replies_are_read() -> None:
    ours = prediction_pb2.GetModelMetadataRequest(model_spec=spec(prediction_pb2), metadata_field=["signature_def"])
    theirs = official_metadata.GetModelMetadataRequest(
        model_spec=spec(official_model), metadata_field=["signature_def"]
    )
    assert ours.SerializeToString() == theirs.SerializeToString()

    signatures = official_metadata.SignatureDefMap()
    signature = signatures.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    tokens = signature.inputs["tokens"]
    tokens.name, tokens.dtype = "serving_default_tokens:0", official_types.DT_INT32
    for _ in range(2):
        tokens.tensor_shape.dim.add(size=-1)
    signature.outputs["score"].tensor_shape.unknown_rank = True
    reply = official_metadata.GetModelMetadataResponse(model_spec=spec(official_model))
    reply.metadata["signature_def"].Pack(signatures)

    read = prediction_pb2.GetModelMetadataResponse.FromString(reply.SerializeToString())
    ours_map = prediction_pb2.SignatureDefMap.FromString(read.metadata["signature_def"].value)

    assert read.metadata["signature_def"].type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    found = ours_map.signature_def["serving_default"]
    assert found.inputs["tokens"].dtype == tensor_pb2.DT_INT32
    assert [dim.size for dim in found.inputs["tokens"].tensor_shape.dim] == [-1, -1]
    assert found.outputs["score"].tensor_shape.unknown_rank
    assert ours_map.SerializeToString(deterministic=True) == signatures.SerializeToString(deterministic=True)


def test_fields_we_do_not_name_survive() -> None:
    theirs = official_tensor.TensorProto(dtype=official_types.DT_HALF, half_val=[1, 2])

    ours = tensor_pb2.TensorProto.FromString(theirs.SerializeToString())

    assert official_tensor.TensorProto.FromString(ours.SerializeToString()) == theirs
