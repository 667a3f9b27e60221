"""What an encoder made of a text, read back from the tensor that is sent."""

from __future__ import annotations

import struct

from worker.ports import Encoder, Rows
from worker.records import DType

FORMATS = {DType.INT32: "i", DType.INT64: "q", DType.FLOAT32: "f"}


def ids_of(rows: Rows, index: int = 0) -> list[int]:
    """The ids of one row, without padding."""
    tokens = rows.tokens[index]
    tensor = rows.tensor([index], tokens)
    ids = struct.unpack(f"<{tensor.shape[1]}{FORMATS[tensor.dtype]}", tensor.content)
    return [int(token) for token in ids[:tokens]]


def encoded(encoder: Encoder, text: str) -> tuple[list[int], bool]:
    """The ids of one text, and whether it was cut."""
    rows = encoder.encode_many([text])
    assert rows.truncated == rows.is_truncated(0)
    return ids_of(rows), rows.is_truncated(0)
