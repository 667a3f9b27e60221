"""A model server that thinks nothing: every review scores the same, at once. For finding out what bounds the worker when
the model does not, and for machines where the real one would take the worker's cores.

usage: python -m tests.bench.null_model MODEL_FOLDER     (prints its gRPC address, and ends when its input does)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from protos.serving import prediction_pb2, tensor_pb2
from tests.bench.model import version
from tests.support.fake_serving import FakeServing, Version
from trainer.versions.layout import CARD_FILE, EXTRA
from worker.text import Vocabulary

SCORE = 0.25


class NullServing(FakeServing):
    """Serves the vocabulary and the card of a real model, and a constant for its scores."""

    def __init__(self, vocabulary: Vocabulary, card: bytes) -> None:
        super().__init__(max_message_bytes=-1)
        self.versions[1] = Version(subwords=tuple(vocabulary.subwords), card=msgspec.json.decode(card))

    def _predict(self, content: bytes, context: Any) -> bytes:
        request = prediction_pb2.PredictRequest.FromString(content)
        if request.model_spec.signature_name == "vocabulary":
            return super()._predict(content, context)
        (fed,), (wanted,) = request.inputs.values(), request.output_filter
        rows = fed.tensor_shape.dim[0].size
        reply = prediction_pb2.PredictResponse()
        reply.model_spec.version.value = 1
        output = reply.outputs[wanted]
        output.dtype = tensor_pb2.DT_FLOAT
        for size in (rows, 1):
            output.tensor_shape.dim.add(size=size)
        output.float_val.append(SCORE)  # the last element fills the rest (tensor.proto)
        return reply.SerializeToString()


def main() -> None:
    """Serves until standard input ends."""
    folder = Path(sys.argv[1])
    server = NullServing(version(folder).vocabulary(), (folder / EXTRA / CARD_FILE).read_bytes())
    sys.stdout.write(server.target + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
