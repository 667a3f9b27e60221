"""Requests to TensorFlow Serving as bytes, and its replies as plain values. Pure.

Tensors travel as `tensor_content`. Replies come as that or, by TF Serving's default, as the typed field (`float_val`).
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError

from protos.serving import model_status_pb2, prediction_pb2, tensor_pb2
from worker.records import DType, Tensor
from worker.serving.errors import bad_reply

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
SIGNATURE_DEF = "signature_def"

Scores = Sequence[Sequence[float]]

TF_DTYPES = {
    DType.FLOAT32: tensor_pb2.DT_FLOAT,
    DType.FLOAT64: tensor_pb2.DT_DOUBLE,
    DType.INT32: tensor_pb2.DT_INT32,
    DType.INT64: tensor_pb2.DT_INT64,
    DType.TEXT: tensor_pb2.DT_STRING,
}
"""Our element types as TensorFlow's (tensorflow/core/framework/types.proto)."""
_DTYPES = {number: dtype for dtype, number in TF_DTYPES.items()}


def status_request(model: str) -> bytes:
    """GetModelStatus for every version of a model."""
    spec = prediction_pb2.ModelSpec(name=model)
    return model_status_pb2.GetModelStatusRequest(model_spec=spec).SerializeToString()


def read_states(reply: bytes, what: str) -> dict[int, str]:
    """Each version's state by name (START, LOADING, AVAILABLE, UNLOADING, END). Raises ServingUnavailable."""
    try:
        found = model_status_pb2.GetModelStatusResponse.FromString(reply)
    except DecodeError as error:
        raise bad_reply(what, str(error)) from error
    names = {number: name for name, number in model_status_pb2.ModelVersionStatus.State.items()}
    return {status.version: names.get(status.state, str(status.state)) for status in found.model_version_status}


def metadata_request(model: str, *, version: int | None = None, label: str = "") -> bytes:
    """GetModelMetadata of one version, named by number or by label."""
    spec = prediction_pb2.ModelSpec(name=model)
    if version is None:
        spec.version_label = label
    else:
        spec.version.value = version
    request = prediction_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
    return request.SerializeToString()


def read_metadata(reply: bytes, what: str) -> tuple[int, Mapping[str, prediction_pb2.SignatureDef]]:
    """The version that was described, and its signatures by name. Raises ServingUnavailable."""
    try:
        found = prediction_pb2.GetModelMetadataResponse.FromString(reply)
        signatures = prediction_pb2.SignatureDefMap.FromString(found.metadata[SIGNATURE_DEF].value)
    except DecodeError as error:
        raise bad_reply(what, str(error)) from error
    return found.model_spec.version.value, signatures.signature_def


def predict_request(
    model: str, version: int, signature: str, *, input_name: str, output_name: str, tensor: Tensor
) -> bytes:
    """Predict by exactly this version, one input, one output."""
    request = prediction_pb2.PredictRequest(output_filter=[output_name])
    request.model_spec.name = model
    request.model_spec.version.value = version
    request.model_spec.signature_name = signature
    fed = request.inputs[input_name]
    fed.dtype = TF_DTYPES[tensor.dtype]
    for size in tensor.shape:
        fed.tensor_shape.dim.add(size=size)
    if tensor.dtype is DType.TEXT:
        fed.string_val.extend(tensor.strings)
    else:
        fed.tensor_content = tensor.content
    return request.SerializeToString()


def read_output(reply: bytes, name: str, version: int, what: str) -> tensor_pb2.TensorProto:
    """The named output of a Predict reply by this very version. Raises ServingUnavailable."""
    try:
        found = prediction_pb2.PredictResponse.FromString(reply)
    except DecodeError as error:
        raise bad_reply(what, str(error)) from error
    spec = found.model_spec
    # A server that names no version leaves ours to be believed; TF Serving always names it.
    if spec.HasField("version") and spec.version.value != version:
        raise bad_reply(what, f"it is from version {spec.version.value}")
    if name not in found.outputs:
        raise bad_reply(what, f"it has no output {name}")
    return found.outputs[name]


def read_scores(
    output: tensor_pb2.TensorProto, *, rows: int, columns: Sequence[int], bounded: bool, what: str
) -> Scores:
    """A row of scores for each review: `rows` of them, as wide as one of `columns`, all finite and, with `bounded`, a
    single column within [0, 1]. Raises ServingUnavailable."""
    shape = tuple(dim.size for dim in output.tensor_shape.dim)
    width = 1 if len(shape) == 1 else shape[1] if len(shape) == 2 else -1
    if width not in columns or shape[0] != rows:
        wanted = " or ".join(f"[{rows}, {column}]" for column in columns)
        raise bad_reply(what, f"its shape is {list(shape)} where {wanted} was expected")
    scores = _floats(output, rows * width, what)
    if not math.isfinite(sum(scores)):  # a sum is finite only if every term is, and it costs a third of asking each
        raise bad_reply(what, "a score is not a finite number")
    if bounded and width == 1 and not (min(scores) >= 0.0 and max(scores) <= 1.0):
        raise bad_reply(what, "a score is outside [0, 1]; if the model's output is a logit, set `logits`")
    return list(zip(*[iter(scores)] * width, strict=True))


def read_strings(output: tensor_pb2.TensorProto, *, rows: int, what: str) -> list[bytes]:
    """The strings of a DT_STRING output of shape [rows]. Raises ServingUnavailable."""
    if output.dtype != tensor_pb2.DT_STRING or len(output.string_val) != rows:
        raise bad_reply(what, f"it does not hold {rows} strings")
    return list(output.string_val)


def _floats(output: tensor_pb2.TensorProto, count: int, what: str) -> Sequence[float]:
    """All elements of a float or double tensor, in order."""
    if output.dtype == tensor_pb2.DT_FLOAT:
        code, typed = "f", output.float_val
    elif output.dtype == tensor_pb2.DT_DOUBLE:
        code, typed = "d", output.double_val
    else:
        raise bad_reply(what, f"its dtype is {dtype_name(output.dtype)} where DT_FLOAT or DT_DOUBLE was expected")
    values: Sequence[float]
    if output.tensor_content:
        elements = array(code)
        if len(output.tensor_content) != count * elements.itemsize:
            raise bad_reply(what, f"it holds {len(output.tensor_content)} bytes for {count} elements")
        elements.frombytes(output.tensor_content)
        if sys.byteorder == "big":
            elements.byteswap()
        values = elements.tolist()
    else:
        values = list(typed)
        if not 0 < len(values) <= count:
            raise bad_reply(what, f"it holds {len(values)} values for {count} elements")
        # tensor.proto: where the field is shorter than the shape, its last element fills the rest.
        values += values[-1:] * (count - len(values))
    return values


def dtype_of(number: int) -> DType | None:
    """Our element type for one of TensorFlow's numbers; None for one that we neither send nor read."""
    return _DTYPES.get(tensor_pb2.DataType.ValueType(number))


def dtype_name(number: int) -> str:
    """TensorFlow's name, for people: `DT_FLOAT` and so on."""
    try:
        return tensor_pb2.DataType.Name(tensor_pb2.DataType.ValueType(number))
    except ValueError:
        return f"dtype {number}"
