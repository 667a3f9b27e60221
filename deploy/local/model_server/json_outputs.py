"""Predictions in the REST API's JSON: `predictions` (rows) or `outputs` (columns), laid out as util/json_tensor.cc does."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
from tensorflow.python.framework import dtypes

from deploy.local.model_server.json_text import Writer, decimal
from deploy.local.model_server.status import invalid_argument
from deploy.local.model_server.tensors import Array, as_array, dtype_name


def predictions_body(outputs: Mapping[str, Array]) -> bytes:
    """The reply to rows: `{"predictions": [...]}`, an object for each row where there are several outputs.

    Raises INVALID_ARGUMENT for outputs without a common first dimension.
    """
    rows = -1
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if rows >= 0 and len(array) != rows:
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
        rows = len(array)
    writer = Writer()
    with writer.members():
        writer.key("predictions")
        with writer.items():
            for row in range(rows):
                _write_row(writer, {name: array[row] for name, array in outputs.items()})
    return writer.encoded()


def _write_row(writer: Writer, values: Mapping[str, Array]) -> None:
    if len(values) == 1:
        writer.single_line = True
        _write_named(writer, values)
        writer.single_line = False
        return
    with writer.members():
        writer.single_line = True
        for name, value in values.items():
            writer.key(name)
            _write_named(writer, {name: value})
        writer.single_line = False


def outputs_body(outputs: Mapping[str, Array]) -> bytes:
    """The reply to columns: `{"outputs": ...}`, an object by output where there are several."""
    writer = Writer()
    with writer.members():
        writer.key("outputs")
        if len(outputs) == 1:
            _write_named(writer, outputs)
        else:
            with writer.members():
                for name, array in outputs.items():
                    writer.key(name)
                    _write_named(writer, {name: array})
    return writer.encoded()


def _write_named(writer: Writer, values: Mapping[str, Array]) -> None:
    """Writes one output's values; an output whose name ends with `_bytes` has its strings in base64."""
    ((name, array),) = values.items()
    _write_array(writer, as_array(array), as_bytes=name.endswith("_bytes"))


def _write_array(writer: Writer, array: Array, *, as_bytes: bool) -> None:
    if array.ndim:
        with writer.items():
            for item in array:
                _write_array(writer, as_array(item), as_bytes=as_bytes)
        return
    value = array.item()
    if isinstance(value, bytes):
        _write_bytes(writer, value, as_bytes=as_bytes)
    elif array.dtype == np.float32:
        writer.raw(decimal(value, np.float32))
    elif array.dtype == np.float64:
        writer.raw(decimal(value, np.float64))
    elif isinstance(value, bool):
        writer.raw("true" if value else "false")
    elif isinstance(value, int):
        writer.raw(str(value))
    else:
        name = dtype_name(dtypes.as_dtype(array.dtype).as_datatype_enum)
        raise invalid_argument(f"Failed to write JSON value for tensor type: {name}")


def _write_bytes(writer: Writer, value: bytes, *, as_bytes: bool) -> None:
    if not as_bytes:
        writer.string(value.decode("utf-8", "surrogateescape"))
        return
    with writer.members():
        writer.key("b64")
        writer.string(base64.b64encode(value).decode())
