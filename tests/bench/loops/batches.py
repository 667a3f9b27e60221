"""What a careful team writes in an afternoon: librdkafka, batches of 256, tfds' encoder, the official stubs, at least once.

usage: python -m tests.bench.loops.batches BOOTSTRAP INPUT OUTPUT COUNT MODEL_FOLDER GRPC_TARGET …
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from confluent_kafka import Consumer, Producer
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from protos.model_card import THRESHOLD
from tests.bench.loops.floor_librdkafka import take_all
from tests.bench.loops.stopwatch import Stopwatch
from tests.bench.model import version

ROWS = 256


def main() -> None:
    """Prints the stopwatch's reading."""
    bootstrap, source, target, count, folder, serving = *sys.argv[1:4], int(sys.argv[4]), *sys.argv[5:7]
    vocabulary = Path(folder) / "assets.extra" / "vocabulary"
    plain = version(Path(folder)).normaliser()
    encoder = tfds.deprecated.text.SubwordTextEncoder.load_from_file(str(vocabulary))
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"loop-{source}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    take_all(consumer, source)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 100})
    channel = grpc.insecure_channel(serving, options=[("grpc.max_send_message_length", -1)])
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    (input_name,) = tf.saved_model.load(folder).signatures["serving_default"].structured_input_signature[1]
    seen = 0
    watch = Stopwatch()
    while seen < count:
        records = consumer.consume(ROWS, 0.5)
        if not records:
            continue
        rows = [encoder.encode(plain(json.loads(record.value())["text"])) for record in records]
        for record, score in zip(records, _scores(stub, input_name, rows), strict=True):
            label = "positive" if score >= THRESHOLD else "negative"
            producer.produce(target, json.dumps({"label": label, "score": score}), key=record.key())
        producer.flush()
        consumer.commit(asynchronous=False)
        seen += len(records)
    watch.tell()
    consumer.close()


def _scores(
    stub: prediction_service_pb2_grpc.PredictionServiceStub, input_name: str, rows: list[list[int]]
) -> list[float]:
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int32)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "sentiment_classifier"
    request.model_spec.signature_name = "serving_default"
    request.inputs[input_name].CopyFrom(tf.make_tensor_proto(padded))
    reply = stub.Predict(request, timeout=60)
    (output,) = reply.outputs.values()
    return [float(score) for score in tf.make_ndarray(output)[:, 0]]


if __name__ == "__main__":
    main()
