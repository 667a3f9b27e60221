"""A front for the real model server that passes bytes on, and misbehaves where a test asks for it.

Only scoring is bent (Predict by `serving_default`), probes included; what the worker asks about versions and
vocabulary is passed on as it is, except in the moods that leave every call unanswered or refused.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any

import grpc

from deploy.local.ports import LOOPBACK
from protos.serving import tensor_pb2
from protos.serving.prediction_pb2 import PredictRequest, PredictResponse

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METHODS = (
    PREDICT,
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    "/tensorflow.serving.ModelService/GetModelStatus",
)
THREADS = 64
LONGEST_HANG_SECONDS = 600.0


class Mood(StrEnum):
    """How the server behaves."""

    WELL = "well"
    GARBAGE = "garbage"
    """Bytes that are no message."""
    EMPTY = "empty"
    """A message without outputs."""
    FEWER_ROWS = "fewer-rows"
    WRONG_DTYPE = "wrong-dtype"
    NAN = "nan"
    OUT_OF_RANGE = "out-of-range"
    WRONG_VERSION = "wrong-version"
    UNAVAILABLE = "unavailable"
    EXHAUSTED = "exhausted"
    FULL = "full"
    """RESOURCE_EXHAUSTED for every batch, while a request of one row, such as a probe, is answered."""
    INTERNAL = "internal"
    FLAKY = "flaky"
    """Every third call is refused as UNAVAILABLE."""
    SLOW = "slow"
    HUNG = "hung"
    """No answer to anything until the mood changes."""


REFUSALS = {
    Mood.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Mood.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Mood.INTERNAL: grpc.StatusCode.INTERNAL,
}
SLOW_SECONDS = 0.4


class FaultyServer:
    """Listens on a port of its own and forwards to `target`. `mood` may be changed at any time."""

    def __init__(self, target: str, port: int = 0) -> None:
        self.poison: Mapping[int, int] = {}
        """By model version, the token id that crashes the server: a request that holds it fails as a dropped
        connection does."""
        self.on_poison: Callable[[], None] = lambda: None
        """What else a crash does."""
        self.calls = 0
        self._mood = Mood.WELL
        self._changed = threading.Condition()
        self._channel = grpc.insecure_channel(
            target, options=[("grpc.max_reconnect_backoff_ms", 1_000), ("grpc.use_local_subchannel_pool", 1)]
        )
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.max_receive_message_length", -1)])
        self._server.add_generic_rpc_handlers((_Handler(self._answer),))
        self.port: int = self._server.add_insecure_port(f"{LOOPBACK}:{port}")
        self._server.start()

    @property
    def mood(self) -> Mood:
        return self._mood

    @mood.setter
    def mood(self, mood: Mood) -> None:
        with self._changed:
            self._mood = mood
            self._changed.notify_all()

    def close(self) -> None:
        self.mood = Mood.WELL
        self._server.stop(None).wait()
        self._channel.close()

    def _answer(self, method: str, request: bytes, context: Any) -> bytes:
        mood = self._mood
        self.calls += 1
        if mood in REFUSALS or (mood is Mood.FLAKY and self.calls % 3 == 0):
            context.abort(REFUSALS.get(mood, grpc.StatusCode.UNAVAILABLE), f"the server is {mood}")
        if mood in (Mood.HUNG, Mood.SLOW):
            with self._changed:
                patience = SLOW_SECONDS if mood is Mood.SLOW else LONGEST_HANG_SECONDS
                self._changed.wait_for(lambda: self._mood is not mood or not context.is_active(), patience)
        asked = PredictRequest.FromString(request) if method == PREDICT else None
        scoring = asked is not None and asked.model_spec.signature_name == "serving_default"
        if mood is Mood.FULL and asked is not None and scoring and asked.inputs["tokens"].tensor_shape.dim[0].size > 1:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the server is full")
        if scoring and asked is not None and self._poisoned(asked):
            self.on_poison()
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was dropped")
        reply = self._forward(method, request, context)
        return _bent(mood, reply) if scoring else reply

    def _forward(self, method: str, request: bytes, context: Any) -> bytes:
        try:
            reply: bytes = self._channel.unary_unary(method)(request, timeout=context.time_remaining())
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        return reply

    def _poisoned(self, asked: PredictRequest) -> bool:
        marker = self.poison.get(asked.model_spec.version.value)
        if marker is None:
            return False
        content = asked.inputs["tokens"].tensor_content
        return marker in struct.unpack(f"<{len(content) // 4}i", content)


def _bent(mood: Mood, content: bytes) -> bytes:
    """The reply as the mood wants it."""
    if mood is Mood.GARBAGE:
        return b"\xff\x07garbage" * 9
    if mood is Mood.EMPTY:
        return b""
    if mood not in _BENDS:
        return content
    reply = PredictResponse.FromString(content)
    _BENDS[mood](reply)
    return reply.SerializeToString()


def _scores(reply: PredictResponse) -> list[float]:
    output = reply.outputs["score"]
    content = output.tensor_content
    return list(struct.unpack(f"<{len(content) // 4}f", content) if content else output.float_val)


def _set(reply: PredictResponse, scores: list[float]) -> None:
    output = reply.outputs["score"]
    output.tensor_content = b""
    output.float_val[:] = scores


def _fewer_rows(reply: PredictResponse) -> None:
    scores = _scores(reply)[1:]
    _set(reply, scores)
    reply.outputs["score"].tensor_shape.dim[0].size = len(scores)


def _wrong_dtype(reply: PredictResponse) -> None:
    reply.outputs["score"].dtype = tensor_pb2.DT_INT64


def _wrong_version(reply: PredictResponse) -> None:
    reply.model_spec.version.value += 1_000


_BENDS: dict[Mood, Callable[[PredictResponse], None]] = {
    Mood.FEWER_ROWS: _fewer_rows,
    Mood.WRONG_DTYPE: _wrong_dtype,
    Mood.NAN: lambda reply: _set(reply, [math.nan, *_scores(reply)[1:]]),
    Mood.OUT_OF_RANGE: lambda reply: _set(reply, [*_scores(reply)[:-1], 1.5]),
    Mood.WRONG_VERSION: _wrong_version,
}


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Every method we know, as bytes in and bytes out."""

    def __init__(self, answer: Callable[[str, bytes, Any], bytes]) -> None:
        self._answer = answer

    def service(self, details: Any) -> Any:
        method = details.method
        if method not in METHODS:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._answer(method, request, context))
