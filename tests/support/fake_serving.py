"""A model server in this process: real gRPC, our own messages, and a model that is a function.

Every version scores a row by its first token id divided by 100. What the server answers can be bent by a test.
"""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from protos.serving import model_status_pb2, prediction_pb2, tensor_pb2
from worker.ports import BuiltEncoder
from worker.records import DType, EncoderSpec
from worker.serving.trial import TEXTS
from worker.text.rows import IdLayout, IdRows

MODEL = "sentiment_classifier"
SENTENCE = 33
"""The token id that trials and probes begin with: their texts are sentences, those of the tests are numbers."""
State = model_status_pb2.ModelVersionStatus.State


def digest_of(subwords: Sequence[str]) -> str:
    """Stands in for the digest of a vocabulary file."""
    return "sha256:" + hashlib.sha256("\n".join(subwords).encode()).hexdigest()


class IdEncoder:
    """An Encoder of texts that are numbers: "7 8" is the ids 7 and 8. Any other word is the id SENTENCE."""

    name = "ids"

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec

    def encode_many(self, texts: Sequence[str]) -> IdRows:
        ids = [[int(word) if word.isdecimal() else SENTENCE for word in text.split()] for text in texts]
        layout = IdLayout(DType.INT32, max_tokens=self.spec.max_tokens)
        return IdRows([*map(layout.pack, ids)], set(), layout)


def make_encoder(spec: EncoderSpec) -> BuiltEncoder:
    return BuiltEncoder(IdEncoder(spec), 1 + len(spec.subwords) + 256, digest_of(spec.subwords))


def info(dtype: str, *shape: int, rank_known: bool = True) -> prediction_pb2.TensorInfo:
    dims = [tensor_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    return prediction_pb2.TensorInfo(
        dtype=tensor_pb2.DataType.Value(dtype),
        tensor_shape=tensor_pb2.TensorShapeProto(dim=dims, unknown_rank=not rank_known),
    )


def signature(
    inputs: dict[str, prediction_pb2.TensorInfo],
    outputs: dict[str, prediction_pb2.TensorInfo],
    method: str = "tensorflow/serving/predict",
) -> prediction_pb2.SignatureDef:
    return prediction_pb2.SignatureDef(inputs=inputs, outputs=outputs, method_name=method)


def serving_default() -> prediction_pb2.SignatureDef:
    return signature({"tokens": info("DT_INT32", -1, -1)}, {"score": info("DT_FLOAT", -1, 1)})


@dataclass
class Version:
    """One version: what it says of itself."""

    subwords: tuple[str, ...] = ("good_", "bad_", "é")
    card: dict[str, Any] = field(default_factory=dict)
    """Over what would be right."""
    state: Any = State.AVAILABLE
    signatures: dict[str, prediction_pb2.SignatureDef] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids, text = info("DT_INT32", -1), info("DT_STRING", -1)
        self.signatures = self.signatures or {
            "serving_default": serving_default(),
            "vocabulary": signature({"ids": ids}, {"subword": text, "card": text}),
        }

    @property
    def card_json(self) -> bytes:
        right = {
            "format": 1,
            "encoder": "tfds-subwords",
            "subwords": len(self.subwords),
            "vocabulary_size": 1 + len(self.subwords) + 256,
            "digest": digest_of(self.subwords),
            "labels": ["negative", "positive"],
            "threshold": 0.6,
            "max_tokens": 50,
            "padding_id": 0,
        }
        return json.dumps({**right, **self.card}).encode()

    def words(self, ids: Sequence[int]) -> list[bytes]:
        return [self.subwords[i - 1].encode() if 0 < i <= len(self.subwords) else b"" for i in ids]


def _is_trial(request: prediction_pb2.PredictRequest) -> bool:
    (fed,) = request.inputs.values()
    if fed.dtype == tensor_pb2.DT_STRING:
        return fed.string_val[0].decode() in TEXTS
    return fed.tensor_content[:4] == SENTENCE.to_bytes(4, "little")


class FakeServing:
    """The server. `port` 0 takes a free one."""

    def __init__(self, port: int = 0, max_message_bytes: int = 4 * 1024 * 1024) -> None:
        self.versions: dict[int, Version] = {}
        self.labels: dict[str, int] = {}
        self.failure: tuple[grpc.StatusCode, str] | None = None
        """What every prediction by `serving_default` fails with."""
        self.bend: Callable[[prediction_pb2.PredictResponse], bytes | None] = lambda _reply: None
        """Changes a reply of `serving_default`, or replaces its bytes."""
        self.as_content = False
        self.open = threading.Event()
        """While it is not set, predictions by `serving_default` wait inside."""
        self.open.set()
        self.arrived = threading.Semaphore(0)
        """Released by each prediction that comes in."""
        self.trials_count = False
        """Whether trials and probes meet the failures asked for, as any prediction does. Else they are answered at once
        and stand in no list, so that a test need not think of them."""
        self.requests: list[prediction_pb2.PredictRequest] = []
        self.metadata: list[dict[str, Any]] = []
        """What came beside each of the requests."""
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(32)
        self._server = grpc.server(self._pool, options=[("grpc.max_receive_message_length", max_message_bytes)])
        self._server.add_generic_rpc_handlers((self._handlers("PredictionService"), self._handlers("ModelService")))
        self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.open.set()
        self._server.stop(None).wait()
        self._pool.shutdown()

    def _handlers(self, service: str) -> Any:
        methods = {
            "PredictionService": {"Predict": self._predict, "GetModelMetadata": self._metadata},
            "ModelService": {"GetModelStatus": self._status},
        }[service]
        handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
        return grpc.method_handlers_generic_handler(f"tensorflow.serving.{service}", handlers)

    def _status(self, content: bytes, context: Any) -> bytes:
        request = model_status_pb2.GetModelStatusRequest.FromString(content)
        if request.model_spec.name != MODEL:
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model")
        reply = model_status_pb2.GetModelStatusResponse()
        for number, version in self.versions.items():
            reply.model_version_status.add(version=number, state=version.state)
        return reply.SerializeToString()

    def _metadata(self, content: bytes, context: Any) -> bytes:
        request = prediction_pb2.GetModelMetadataRequest.FromString(content)
        number, version = self._find(request.model_spec, context)
        reply = prediction_pb2.GetModelMetadataResponse()
        reply.model_spec.version.value = number
        found = prediction_pb2.SignatureDefMap(signature_def=version.signatures)
        reply.metadata["signature_def"].Pack(found)
        return reply.SerializeToString()

    def _find(self, spec: prediction_pb2.ModelSpec, context: Any) -> tuple[int, Version]:
        number = spec.version.value
        if spec.WhichOneof("version_choice") == "version_label":
            if spec.version_label not in self.labels:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: x")
            number = self.labels[spec.version_label]
        version = self.versions.get(number)
        if version is None or version.state != State.AVAILABLE:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(x, 1)")
        assert version is not None
        return number, version

    def _predict(self, content: bytes, context: Any) -> bytes:
        request = prediction_pb2.PredictRequest.FromString(content)
        number, version = self._find(request.model_spec, context)
        reply = prediction_pb2.PredictResponse()
        reply.model_spec.version.value = number
        if request.model_spec.signature_name == "vocabulary":
            self._look_up(request, version, reply)
            return reply.SerializeToString()
        if _is_trial(request) and not self.trials_count:
            self._score(request, version, reply)
            return reply.SerializeToString()
        with self._lock:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        self.arrived.release()
        self.open.wait()
        with self._lock:
            self._at_once -= 1
        if self.failure is not None:
            context.abort(*self.failure)
        self._score(request, version, reply)
        bent = self.bend(reply)
        return reply.SerializeToString() if bent is None else bent

    def _look_up(
        self, request: prediction_pb2.PredictRequest, version: Version, reply: prediction_pb2.PredictResponse
    ) -> None:
        content = request.inputs["ids"].tensor_content
        ids = struct.unpack(f"<{len(content) // 4}i", content)
        (wanted,) = request.output_filter
        found = version.words(ids) if wanted == "subword" else [version.card_json] * len(ids)
        output = reply.outputs[wanted]
        output.dtype = tensor_pb2.DT_STRING
        output.tensor_shape.dim.add(size=len(ids))
        output.string_val.extend(found)

    def _score(
        self, request: prediction_pb2.PredictRequest, version: Version, reply: prediction_pb2.PredictResponse
    ) -> None:
        found = version.signatures["serving_default"]
        (input_name,), (output_name,) = found.inputs, request.output_filter
        fed = request.inputs[input_name]
        rows = fed.tensor_shape.dim[0].size
        if fed.dtype == tensor_pb2.DT_STRING:
            scores = [min(len(text), 100) / 100 for text in fed.string_val]
        else:
            row_bytes = len(fed.tensor_content) // rows
            firsts = (fed.tensor_content[start : start + 4] for start in range(0, rows * row_bytes, row_bytes))
            scores = [int.from_bytes(first, "little", signed=True) / 100 for first in firsts]
        output = reply.outputs[output_name]
        output.dtype = found.outputs[output_name].dtype
        # More scores than one where the signature says so, each the same.
        width = max(found.outputs[output_name].tensor_shape.dim[-1].size, 1)
        scores = [score for score in scores for _ in range(width)]
        for size in (rows, width):
            output.tensor_shape.dim.add(size=size)
        double = output.dtype == tensor_pb2.DT_DOUBLE
        if self.as_content:
            output.tensor_content = struct.pack(f"<{len(scores)}{'d' if double else 'f'}", *scores)
        else:
            (output.double_val if double else output.float_val).extend(scores)
