"""The model server over gRPC, by the official stubs: predictions, metadata, and TensorFlow Serving's errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.support.model_server import ServerHandle, running_model_server
from tests.support.model_server_models import save_mixed, save_scorer, tf
from tests.support.model_server_requests import (
    model_service_stub,
    prediction_stub,
    refused,
    request,
    with_label,
    with_version,
)

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2  # isort: skip

CONFIG = """
model_config_list {{
  config {{ name: "scorer" base_path: "{base}/scorer" model_platform: "tensorflow" }}
  config {{ name: "mixed" base_path: "{base}/mixed" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("models")
    save_scorer(base / "scorer", 3)
    save_mixed(base / "mixed", 1)
    (base / "config").write_text(CONFIG.format(base=base))
    return base


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ServerHandle]:
    with running_model_server(None, config_file=models / "config") as handle:
        yield handle


@pytest.fixture(scope="module")
def prediction(server: ServerHandle) -> Iterator[Any]:
    with prediction_stub(server) as stub:
        yield stub


@pytest.fixture(scope="module")
def model_service(server: ServerHandle) -> Iterator[Any]:
    with model_service_stub(server) as stub:
        yield stub


def tokens(*rows: list[int]) -> Any:
    return np.array(rows, np.int32)


def test_predict_answers_by_the_default_signature_and_names_the_version(prediction: Any) -> None:
    reply = prediction.Predict(request("scorer", tokens=tokens([1, 2], [30, 0])))
    assert reply.model_spec.name == "scorer"
    assert reply.model_spec.version.value == 3
    assert reply.model_spec.signature_name == "serving_default"
    assert list(reply.outputs) == ["score"]
    np.testing.assert_allclose(tf.make_ndarray(reply.outputs["score"]), [[3.003], [3.030]], rtol=1e-6)


def test_values_come_in_the_field_of_their_type(prediction: Any) -> None:
    score = prediction.Predict(request("scorer", tokens=tokens([1]))).outputs["score"]
    assert len(score.float_val) == 1
    assert not score.tensor_content
    outputs = prediction.Predict(request("mixed", words=[b"a", b"\xff"], numbers=np.array([[1, 2], [3, 4]]))).outputs
    assert list(outputs["total"].int64_val) == [3, 7]
    assert list(outputs["echo"].string_val) == [b"a!", b"\xff!"]
    assert list(outputs["half"].half_val) == list(np.array([0.75, 1.75], np.float16).view(np.uint16))
    assert tf.make_ndarray(outputs["half"]).tolist() == [0.75, 1.75]


def test_tensor_content_on_request_of_the_flag(models: Path) -> None:
    arguments = ["--enable_serialization_as_tensor_content=true"]
    with (
        running_model_server(models / "mixed", model_name="mixed", arguments=arguments) as handle,
        prediction_stub(handle) as stub,
    ):
        outputs = stub.Predict(request("mixed", words=[b"a"], numbers=np.array([[1, 2]]))).outputs
    assert outputs["total"].tensor_content == np.array([3]).tobytes()
    assert not outputs["total"].int64_val
    assert list(outputs["echo"].string_val) == [b"a!"]


def test_a_tensor_may_come_as_content_or_as_values_or_as_one_value_for_all(prediction: Any) -> None:
    message = request("scorer", tokens=tokens([5, 5], [5, 5]))
    assert message.inputs["tokens"].tensor_content
    expected = prediction.Predict(message).outputs["score"]
    for values in ([5, 5, 5, 5], [5]):
        message.inputs["tokens"].ClearField("tensor_content")
        message.inputs["tokens"].int_val[:] = values
        assert prediction.Predict(message).outputs["score"] == expected


def test_an_empty_batch_has_no_scores(prediction: Any) -> None:
    reply = prediction.Predict(request("scorer", tokens=np.zeros((0, 7), np.int32)))
    assert tf.make_ndarray(reply.outputs["score"]).shape == (0, 1)


def test_a_message_beyond_grpcs_four_megabytes_is_taken(prediction: Any) -> None:
    reply = prediction.Predict(request("scorer", tokens=np.ones((1, 2_000_000), np.int32)))
    assert tf.make_ndarray(reply.outputs["score"])[0, 0] == pytest.approx(2003)


def test_other_signatures_and_scalars(prediction: Any) -> None:
    reply = prediction.Predict(request("mixed", "scalar", x=np.float32(1.5)))
    assert reply.model_spec.signature_name == "scalar"
    assert list(reply.outputs["y"].double_val) == [3.0]
    assert not reply.outputs["y"].tensor_shape.dim


def test_output_filter_picks_outputs(prediction: Any) -> None:
    inputs = {"words": [b"a"], "numbers": np.array([[1, 2]])}
    assert list(prediction.Predict(request("mixed", output_filter=["echo"], **inputs)).outputs) == ["echo"]
    assert refused(prediction.Predict, request("mixed", output_filter=["nothing"], **inputs)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        (
            "output tensor alias not found in signature: nothing"
            " Outputs expected to be in the set {echo,half,raw_bytes,total}."
        ),
    )
    assert refused(prediction.Predict, request("mixed", output_filter=["echo", "echo"], **inputs)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "duplicate output tensor alias: echo",
    )


def without_values(dtype: int) -> Any:
    message = request("scorer", tokens=tokens([1]))
    message.inputs["tokens"].Clear()
    message.inputs["tokens"].dtype = dtype
    return message


def cut_content() -> Any:
    message = request("scorer", tokens=tokens([1, 2]))
    message.inputs["tokens"].tensor_content = message.inputs["tokens"].tensor_content[:-1]
    return message


def negative_shape() -> Any:
    message = request("scorer", tokens=tokens([1, 2]))
    message.inputs["tokens"].tensor_shape.dim[0].size = -1
    return message


def many_dimensions(count: int, *, as_values: bool) -> Any:
    message = request("scorer", tokens=np.int32(1).reshape((1,) * 64))
    tensor = message.inputs["tokens"]
    for _ in range(count - 64):
        tensor.tensor_shape.dim.add(size=1)
    if as_values:
        tensor.int_val[:] = [1]
    else:
        tensor.tensor_content = np.int32(1).tobytes()
        tensor.ClearField("int_val")
    return message


NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
REFUSALS = {
    "no model_spec": (predict_pb2.PredictRequest(), INVALID, "Missing ModelSpec"),
    "no model name": (request("", tokens=tokens([1])), INVALID, "ModelSpec has no name specified."),
    "unknown model": (request("x", tokens=tokens([1])), NOT_FOUND, "Servable not found for request: Latest(x)"),
    "unknown version": (
        with_version(request("scorer", tokens=tokens([1])), 9),
        NOT_FOUND,
        "Servable not found for request: Specific(scorer, 9)",
    ),
    "unknown label": (
        with_label(request("scorer", tokens=tokens([1])), "canary"),
        INVALID,
        "Unrecognized servable version label: canary",
    ),
    "unknown signature": (
        request("scorer", "nothing", tokens=tokens([1])),
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "nothing" not found.',
    ),
    "no input": (
        request("scorer"),
        INVALID,
        (
            "input size does not match signature: 0!=1 len({}) != len({tokens})."
            " Sent extra: {}. Missing but required: {tokens}."
        ),
    ),
    "one input too many": (
        request("scorer", tokens=tokens([1]), mask=tokens([1])),
        INVALID,
        (
            "input size does not match signature: 2!=1 len({mask,tokens}) != len({tokens})."
            " Sent extra: {mask}. Missing but required: {}."
        ),
    ),
    "another input": (request("scorer", ids=tokens([1])), INVALID, "Signature input alias: tokens(feed name: "),
    "another dtype": (
        request("scorer", tokens=np.array([[1]])),
        INVALID,
        "Expects arg[0] to be int32 but int64 is provided",
    ),
    "strings for numbers": (
        request("scorer", tokens=[["a"]]),
        INVALID,
        "Expects arg[0] to be int32 but string is provided",
    ),
    "another rank": (request("scorer", tokens=np.int32(1)), INVALID, ""),
    "no dtype": (without_values(0), INVALID, "tensor parsing error: tokens"),
    "unknown dtype": (without_values(999), INVALID, "tensor parsing error: tokens"),
    "content cut short": (cut_content(), INVALID, "tensor parsing error: tokens"),
    "100 dimensions, content": (many_dimensions(100, as_values=False), INVALID, "tensor parsing error: tokens"),
    "100 dimensions, values": (many_dimensions(100, as_values=True), INVALID, "tensor parsing error: tokens"),
    "300 dimensions": (many_dimensions(300, as_values=True), INVALID, "tensor parsing error: tokens"),
    "negative dimension": (negative_shape(), INVALID, "tensor parsing error: tokens"),
}


@pytest.mark.parametrize(("message", "code", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_wrong_request_is_refused_as_tensorflow_serving_does(
    prediction: Any, message: Any, code: grpc.StatusCode, words: str
) -> None:
    got_code, got_words = refused(prediction.Predict, message)
    assert got_code == code
    assert got_words.startswith(words)


def test_a_long_error_is_cut_as_tensorflow_serving_cuts_it(prediction: Any) -> None:
    code, words = refused(prediction.Predict, request("x" * 2000, tokens=tokens([1])))
    assert code == NOT_FOUND
    assert words == ("Servable not found for request: Latest(" + "x" * 2000)[:1024] + "...TRUNCATED"


def test_metadata_gives_the_signatures(prediction: Any) -> None:
    message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    message.model_spec.name = "mixed"
    reply = prediction.GetModelMetadata(message)
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("mixed", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert default.method_name == "tensorflow/serving/predict"
    assert {alias: info.dtype for alias, info in default.inputs.items()} == {
        "words": tf.string.as_datatype_enum,
        "numbers": tf.int64.as_datatype_enum,
    }
    assert [dim.size for dim in default.inputs["numbers"].tensor_shape.dim] == [-1, 2]
    assert {"serving_default", "scalar", "raw"} <= set(signatures.signature_def)


def test_metadata_refuses_what_tensorflow_serving_refuses(prediction: Any) -> None:
    make = get_model_metadata_pb2.GetModelMetadataRequest
    spec = request("scorer").model_spec
    call = prediction.GetModelMetadata
    assert refused(call, make(metadata_field=["signature_def"])) == (INVALID, "Missing ModelSpec")
    no_field = "GetModelMetadataRequest must specify at least one metadata_field"
    assert refused(call, make(model_spec=spec)) == (INVALID, no_field)
    assert refused(call, make(model_spec=spec, metadata_field=["x"])) == (INVALID, "Metadata field x is not supported")
    unknown = make(model_spec=request("x").model_spec, metadata_field=["signature_def"])
    assert refused(call, unknown) == (NOT_FOUND, "Servable not found for request: Latest(x)")


def test_status_gives_the_versions(model_service: Any) -> None:
    message = get_model_status_pb2.GetModelStatusRequest(model_spec=request("scorer").model_spec)
    (version,) = model_service.GetModelStatus(message).model_version_status
    assert (version.version, version.state, version.status.error_code) == (3, 30, 0)
    message.model_spec.version.value = 3
    assert model_service.GetModelStatus(message).model_version_status[0] == version


def test_status_refuses_what_tensorflow_serving_refuses(model_service: Any) -> None:
    make = get_model_status_pb2.GetModelStatusRequest
    call = model_service.GetModelStatus
    assert refused(call, make()) == (INVALID, "Missing ModelSpec")
    unknown = make(model_spec=request("x").model_spec)
    assert refused(call, unknown) == (NOT_FOUND, "Could not find any versions of model x")
    missing = with_version(make(model_spec=request("scorer").model_spec), 9)
    assert refused(call, missing) == (NOT_FOUND, "Could not find version 9 of model scorer")


def test_classify_is_not_served(prediction: Any) -> None:
    from tensorflow_serving.apis import classification_pb2

    code, _ = refused(prediction.Classify, classification_pb2.ClassificationRequest())
    assert code == grpc.StatusCode.UNIMPLEMENTED
