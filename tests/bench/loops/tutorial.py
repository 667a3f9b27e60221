"""The loop a tutorial ends with: each review tokenized by tfds' encoder, sent alone over REST, its label produced.

usage: python -m tests.bench.loops.tutorial BOOTSTRAP INPUT OUTPUT COUNT MODEL_FOLDER _ REST_URL
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import requests
import tensorflow_datasets as tfds
from kafka import KafkaConsumer, KafkaProducer

from protos.model_card import THRESHOLD
from tests.bench.loops.stopwatch import Stopwatch
from tests.bench.model import version


def main() -> None:
    """Prints the stopwatch's reading."""
    bootstrap, source, target, count, folder, _, rest = *sys.argv[1:4], int(sys.argv[4]), *sys.argv[5:8]
    vocabulary = Path(folder) / "assets.extra" / "vocabulary"
    plain = version(Path(folder)).normaliser()
    encoder = tfds.deprecated.text.SubwordTextEncoder.load_from_file(str(vocabulary))
    consumer = KafkaConsumer(source, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    url = f"{rest}/v1/models/sentiment_classifier:predict"
    watch = Stopwatch()
    for _, record in zip(range(count), consumer, strict=False):
        text = json.loads(record.value)["text"]
        body = json.dumps({"signature_name": "serving_default", "instances": [encoder.encode(plain(text))]})
        reply = requests.post(url, data=body, headers={"content-type": "application/json"}, timeout=60)
        score = json.loads(reply.text)["predictions"][0][0]
        label = "positive" if score >= THRESHOLD else "negative"
        producer.send(target, json.dumps({"label": label, "score": score}).encode(), key=record.key)
    producer.flush()
    watch.tell()


if __name__ == "__main__":
    main()
