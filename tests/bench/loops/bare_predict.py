"""A floor: what grpc alone costs to send the worker's own micro-batches, made before the watch starts, and to wait for the
replies. It is also as fast as the model server gets with these batches, since nothing else happens.

usage: python -m tests.bench.loops.bare_predict _ _ _ COUNT MODEL_FOLDER GRPC_TARGET …
"""

from __future__ import annotations

import sys
from itertools import cycle, islice
from pathlib import Path
from threading import Semaphore

import grpc

from producer.dataset import imdb_reviews
from tests.bench.loops.stopwatch import Stopwatch
from tests.bench.model import encoder
from worker.pipeline.batching import plan
from worker.service import batch_limits
from worker.serving.wire import PREDICT, metadata_request, predict_request, read_metadata
from worker.settings import Settings

GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"


def main() -> None:
    """Prints the stopwatch's reading."""
    count, folder, target = int(sys.argv[4]), Path(sys.argv[5]), sys.argv[6]
    channel = grpc.insecure_channel(target, options=[("grpc.max_send_message_length", -1)])
    requests = _requests(channel, folder, count)
    predict = channel.unary_unary(PREDICT)
    free = Semaphore(Settings().max_requests)
    watch = Stopwatch()
    for request in requests:
        free.acquire()
        predict.future(request, timeout=60).add_done_callback(lambda _reply: free.release())
    for _ in range(Settings().max_requests):
        free.acquire()
    watch.tell()


def _requests(channel: grpc.Channel, folder: Path, count: int) -> list[bytes]:
    settings, version = Settings(), int(folder.name)
    reply = channel.unary_unary(GET_MODEL_METADATA)(metadata_request(settings.model, version=version))
    signature = read_metadata(reply, "the model")[1][settings.signature]
    (input_name,), (output_name,) = signature.inputs, signature.outputs
    texts = [entry.review.text for entry in imdb_reviews()]
    texts = list(islice(cycle(texts), count))
    encode_many = encoder(folder).encode_many
    requests = []
    for start in range(0, count, settings.window_records):
        rows = encode_many(texts[start : start + settings.window_records])
        for batch in plan(rows.tokens, batch_limits(settings)):
            tensor = rows.tensor(batch.rows, batch.longest)
            requests.append(
                predict_request(
                    settings.model,
                    version,
                    settings.signature,
                    input_name=input_name,
                    output_name=output_name,
                    tensor=tensor,
                )
            )
    return requests


if __name__ == "__main__":
    main()
