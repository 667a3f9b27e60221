"""Inputs in the REST API's JSON: `instances` (rows) or `inputs` (columns).

The rules and the words of every error are those of util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import dtypes

from deploy.local.model_server.json_text import debug_text, value_error
from deploy.local.model_server.status import StatusError, invalid_argument
from deploy.local.model_server.tensors import Array, dtype_name

_INTEGERS = {
    types_pb2.DT_INT32: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT16: (-(2**31), 2**31 - 1),  # narrowed later, without a word, as there
    types_pb2.DT_INT8: (-(2**31), 2**31 - 1),
    types_pb2.DT_UINT8: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}
_FLOATS = {types_pb2.DT_FLOAT: np.float32, types_pb2.DT_DOUBLE: np.float64}


class TensorInfo(Protocol):
    """What a signature says of an input: `tensorflow.TensorInfo`."""

    dtype: int


@dataclass
class _Column:
    """One input's values as they gather, item by item."""

    dtype: int
    shape: tuple[int, ...]
    values: list[object]

    def array(self, shape: tuple[int, ...]) -> Array:
        dtype = dtypes.as_dtype(self.dtype).as_numpy_dtype
        wide = np.int32 if _INTEGERS.get(self.dtype) == _INTEGERS[types_pb2.DT_INT32] else dtype
        try:
            with np.errstate(over="ignore"):
                return np.array(self.values, wide).astype(dtype, copy=False).reshape(shape)
        except OverflowError as error:
            raise invalid_argument("JSON Parse error: Number too big to be stored in double.") from error
        except ValueError as error:  # more dimensions than numpy has (64), or TensorFlow (254)
            raise invalid_argument(f"tensor parsing error: {len(shape)} dimensions") from error


def parse_inputs(document: Mapping[str, object], infos: Mapping[str, TensorInfo]) -> tuple[dict[str, Array], bool]:
    """The inputs by alias, and whether they came as rows. Raises INVALID_ARGUMENT."""
    if not infos:
        raise invalid_argument(f"Failed to get input map for signature: {document.get('signature_name') or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise value_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise value_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise value_error(document, "No values in 'instances' array")
        return _rows(instances, infos), True
    if "inputs" in document:
        return _columns(document["inputs"], infos), False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _rows(instances: list[object], infos: Mapping[str, TensorInfo]) -> dict[str, Array]:
    if not isinstance(instances[0], dict) and len(infos) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per"
            " tensorinfo_map"
        )
    named = _is_named(instances[0])
    columns: dict[str, _Column] = {}
    for index, item in enumerate(instances):
        if _is_named(item) != named:
            got = "Expecting object but got list" if named else "Expecting value/list but got object"
            raise invalid_argument(f"{got} at item {index} of input list")
        members = item if named and isinstance(item, dict) else {min(infos): item}
        for name, value in members.items():
            try:
                _add_item(value, name, infos, columns)
            except StatusError as error:
                key = f" key: {name}" if named else ""
                raise invalid_argument(
                    f"Failed to process element: {index}{key} of 'instances' list. Error: {error}"
                ) from error
        if set(members) != set(infos):
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {debug_text(item)}"
                f" keys must be equal to: {','.join(sorted(infos))}"
            )
    return {name: column.array((len(instances), *column.shape)) for name, column in columns.items()}


def _add_item(value: object, name: str, infos: Mapping[str, TensorInfo], columns: dict[str, _Column]) -> None:
    if name not in infos:
        raise invalid_argument(f"JSON object: does not have named input: {name}")
    shape = _shape(value)
    column = columns.setdefault(name, _Column(infos[name].dtype, shape, []))
    before = len(column.values)
    _fill(value, 0, shape, column)
    size, expected = len(column.values) - before, _size(column.shape)
    if size != expected:
        raise invalid_argument(f"Expecting tensor size: {expected} but got: {size}")
    if shape != column.shape:
        raise invalid_argument(f"Expecting shape {_shape_text(column.shape)} but got: {_shape_text(shape)}")


def _columns(inputs: object, infos: Mapping[str, TensorInfo]) -> dict[str, Array]:
    if isinstance(inputs, dict) and not _is_base64(inputs):
        members = inputs
    elif len(infos) > 1:
        raise invalid_argument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per"
            " tensorinfo_map"
        )
    else:
        members = {min(infos): inputs}
    arrays = {}
    for name, info in infos.items():
        if name not in members:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        column = _Column(info.dtype, _shape(members[name]), [])
        _fill(members[name], 0, column.shape, column)
        arrays[name] = column.array(column.shape)
    return arrays


def _fill(value: object, level: int, shape: tuple[int, ...], column: _Column) -> None:
    """Adds the value's leaves to the column; every leaf must lie at the same depth and every list have its length."""
    if not isinstance(value, list):
        if level != len(shape):
            raise value_error(
                value, f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}"
            )
        column.values.append(_leaf(value, column.dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(item, level + 1, shape, column)


def _leaf(value: object, dtype: int) -> object:
    if isinstance(value, dict):
        if dtype != types_pb2.DT_STRING:
            raise _type_error(value, dtype)
        return _from_base64(value)
    if dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        fits = type(value) is int and low <= value <= high
    elif dtype in _FLOATS:
        fits = type(value) in (int, float)
    elif dtype == types_pb2.DT_BOOL:
        fits = isinstance(value, bool)
    elif dtype == types_pb2.DT_STRING:
        if isinstance(value, str):
            return _encoded(value)
        fits = False
    else:
        raise invalid_argument(f"Conversion of JSON Value: {debug_text(value)} to type: {dtype_name(dtype)}")
    if not fits:
        raise _type_error(value, dtype)
    return value


def _encoded(value: str) -> bytes:
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise invalid_argument("JSON Parse error: The surrogate pair in string is invalid.") from error


def _from_base64(value: dict[str, object]) -> bytes:
    text = value.get("b64")
    if not _is_base64(value) or not isinstance(text, str):
        raise value_error(value, "not formatted correctly for base64 data")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def _is_base64(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_named(item: object) -> bool:
    return isinstance(item, dict) and not _is_base64(item)


def _type_error(value: object, dtype: int) -> StatusError:
    kinds = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number", type(None): "Null"}
    kind = str(value) if isinstance(value, bool) else kinds[type(value)]
    return value_error(value, f"Type: {kind} is not of expected type: {dtype_name(dtype)}")


def _shape(value: object) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for dimension in shape:
        size *= dimension
    return size


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
