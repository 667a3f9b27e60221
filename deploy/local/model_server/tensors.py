"""Tensors on the wire (`tensorflow.TensorProto`) from and to numpy arrays."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.python.client.session import Session
from tensorflow.python.framework import dtypes, errors_impl, ops
from tensorflow.python.ops import array_ops, gen_parsing_ops

Array = NDArray[np.generic]

# tensorflow/core/framework/tensor.cc, ProtoHelper: which field holds the values of which type. The second entry is the
# numpy type that the values are viewed as, where the field holds bit patterns or parts.
_FIELDS: dict[int, tuple[str, str | None]] = {
    types_pb2.DT_FLOAT: ("float_val", None),
    types_pb2.DT_DOUBLE: ("double_val", None),
    types_pb2.DT_INT32: ("int_val", None),
    types_pb2.DT_INT16: ("int_val", None),
    types_pb2.DT_INT8: ("int_val", None),
    types_pb2.DT_UINT16: ("int_val", None),
    types_pb2.DT_UINT8: ("int_val", None),
    types_pb2.DT_INT64: ("int64_val", None),
    types_pb2.DT_UINT32: ("uint32_val", None),
    types_pb2.DT_UINT64: ("uint64_val", None),
    types_pb2.DT_BOOL: ("bool_val", None),
    types_pb2.DT_STRING: ("string_val", None),
    types_pb2.DT_HALF: ("half_val", "uint16"),
    types_pb2.DT_BFLOAT16: ("half_val", "uint16"),
    types_pb2.DT_COMPLEX64: ("scomplex_val", "float32"),
    types_pb2.DT_COMPLEX128: ("dcomplex_val", "float64"),
}


def dtype_name(dtype: int) -> str:
    """TensorFlow's own name of a type, as its messages use it: `float`, `int32`, `string`."""
    return str(types_pb2.DataType.Name(dtype)).removeprefix("DT_").lower()


def as_array(value: object) -> Array:
    """An array of what a session or an index may give: bytes for a string without dimensions, a numpy scalar for a number.

    Strings stay objects: numpy's own string type drops zero bytes at the end.
    """
    return np.asarray(value, dtype=object if isinstance(value, bytes) else None)


def from_proto(proto: TensorProto) -> Array:
    """The array a request carries. Raises ValueError when the message is not a whole tensor."""
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    content = proto.tensor_content
    if content and proto.dtype in _FIELDS and proto.dtype != types_pb2.DT_STRING:
        dtype = dtypes.as_dtype(proto.dtype).as_numpy_dtype
        plain = min(shape, default=0) >= 0 and not proto.tensor_shape.unknown_rank
        if plain and len(content) == math.prod(shape) * np.dtype(dtype).itemsize:
            return np.frombuffer(content, dtype).reshape(shape)
    return _decode(proto)


def to_proto(array: Array, dtype: int, *, as_content: bool = False) -> TensorProto:
    """The message a reply carries: values in the type's own field, as TensorFlow Serving sends them unless started with
    `--enable_serialization_as_tensor_content`; `as_content` does as that flag does."""
    proto = TensorProto(dtype=dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    field, viewed_as = _FIELDS.get(dtype, ("", None))
    if not field or (as_content and dtype != types_pb2.DT_STRING):
        proto.tensor_content = array.tobytes()
        return proto
    flat = np.ascontiguousarray(array).reshape(-1)
    getattr(proto, field).extend((flat.view(viewed_as) if viewed_as else flat).tolist())
    return proto


class _Decoder:
    """TensorFlow's own reading of a TensorProto, by the op ParseTensor: one tiny graph for each type."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._graph = ops.Graph()
        self._session = Session(graph=self._graph)
        self._by_dtype: dict[int, Callable[[bytes], object]] = {}

    def __call__(self, proto: TensorProto) -> Array:
        if proto.dtype not in types_pb2.DataType.values() or proto.dtype == types_pb2.DT_INVALID:
            raise ValueError("no dtype")
        try:
            return as_array(self._callable(proto.dtype)(proto.SerializeToString()))
        except (errors_impl.OpError, TypeError) as error:
            raise ValueError(str(error)) from error

    def _callable(self, dtype: int) -> Callable[[bytes], object]:
        with self._lock:
            if dtype not in self._by_dtype:
                with self._graph.as_default():
                    serialized = array_ops.placeholder(dtypes.string, shape=[])
                    parsed = gen_parsing_ops.parse_tensor(serialized, dtypes.as_dtype(dtype))
                run = self._session.make_callable(parsed, [serialized])
                self._by_dtype[dtype] = run
            return self._by_dtype[dtype]


_decoder: _Decoder | None = None
_decoder_lock = threading.Lock()


def _decode(proto: TensorProto) -> Array:
    global _decoder  # noqa: PLW0603  # built on first use: most requests never need it
    with _decoder_lock:
        if _decoder is None:
            _decoder = _Decoder()
    return _decoder(proto)
