"""The worker's own path, step by step: what each costs alone, in one thread, with no client of Kafka or gRPC in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from protos.codecs import ReviewMessage, encode_review
from protos.forms import Form
from protos.model_card import THRESHOLD
from tests.bench.figures import Stage
from tests.bench.model import encoder as model_encoder
from worker.kafka.answers import AnswerWriter
from worker.pipeline.batching import plan
from worker.pipeline.decoding import decoder
from worker.pipeline.labelling import label
from worker.pipeline.preparing import decode_window
from worker.ports import ServedModel
from worker.records import Partition, Record, Window
from worker.service import batch_limits
from worker.serving.wire import predict_request
from worker.settings import Settings

ROUNDS = 5
TOPIC = "reviews"


def measure(model: Path, texts: Sequence[str]) -> list[Stage]:
    """The least of some rounds for each step, over windows of the default size. `model` is a version's folder."""
    settings = Settings()
    encoder = model_encoder(model)
    served = ServedModel("sentiment_classifier", 1, ("negative", "positive"), THRESHOLD, encoder)
    windows = _windows(texts, settings.window_records)
    decode, limits, writer = decoder(settings.max_review_bytes), batch_limits(settings), _writer()
    stages: list[Stage] = []

    def step(name: str, work: Callable[[], list[object]]) -> list[object]:
        done, least = [], float("inf")
        for _ in range(ROUNDS):
            started = time.process_time()
            done = work()
            least = min(least, time.process_time() - started)
        stages.append(Stage(name, least / len(texts) * 1e6))
        return done

    decoded = step("decode the records' JSON", lambda: [decode_window(window, decode) for window in windows])
    rows = step(
        "normalise and encode the texts", lambda: [encoder.encode_many([r.text for r in d.reviews]) for d in decoded]
    )
    batches = step("plan micro-batches", lambda: [plan(each.tokens, limits) for each in rows])
    tensors = step(
        "pad them",
        lambda: [each.tensor(b.rows, b.longest) for each, planned in zip(rows, batches, strict=True) for b in planned],
    )
    step("write the requests", lambda: [_request(tensor) for tensor in tensors])
    labelled = step("label", lambda: [_labelled(d, r, served) for d, r in zip(decoded, rows, strict=True)])
    step("write the results", lambda: [writer.write(w, found) for w, found in zip(windows, labelled, strict=True)])
    return stages


def _windows(texts: Sequence[str], size: int) -> list[Window]:
    records = [
        Record(TOPIC, 0, n, 1_700_000_000_000, b"%d" % n, encode_review(ReviewMessage(str(n), text)))
        for n, text in enumerate(texts)
    ]
    partition = Partition(TOPIC, 0)
    return [Window(records[start : start + size], {partition: start + size}) for start in range(0, len(records), size)]


def _request(tensor: object) -> bytes:
    return predict_request("sentiment_classifier", 1, "serving_default", input_name="t", output_name="s", tensor=tensor)


def _labelled(decoded, rows, served: ServedModel) -> list[object]:
    each = zip(decoded.records, decoded.reviews, rows.tokens, strict=True)
    return [
        label(record, review, (0.25,), served, tokens=tokens, truncated=rows.is_truncated(index), all_scores=False)
        for index, (record, review, tokens) in enumerate(each)
    ]


def _writer() -> AnswerWriter:
    return AnswerWriter(
        output_topic="labels",
        dead_letter_topic="dead",
        partitions={TOPIC: 3, "labels": 3, "dead": 3},
        form=Form.JSON,
        group="bench",
        worker="bench",
        now_seconds=time.time,
        audit=False,
    )
