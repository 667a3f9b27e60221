"""Writes a trained model as a version that TensorFlow Serving loads, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from protos.model_card import CARD, IDS, SIGNATURE, SUBWORD, Card
from trainer.card import card_of
from trainer.errors import ExportError
from trainer.quiet import tf
from trainer.versions.layout import CARD_FILE, EXTRA, VOCABULARY_FILE
from worker.text import Vocabulary


class Served(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """The exported graph: Keras' four layers with the embedding and the hidden layer's weights multiplied beforehand.

    The hidden layer sees the mean of embeddings, and the mean of products is the product of the mean, so a table
    [vocabulary, 6] gives the same score as one of [vocabulary, 64] for a tenth of the memory traffic. The mean is summed in
    float64, where the order of the terms and the number of paddings make no difference that a float32 score shows."""

    def __init__(self, model: Any, vocabulary: Vocabulary, card: Card) -> None:
        super().__init__(name="served")
        embedding, hidden, hidden_bias, output, output_bias = (
            np.asarray(weight, np.float64) for weight in model.get_weights()
        )
        table = embedding @ hidden
        table[0] = 0.0  # padding adds nothing to the sum
        self.table = tf.Variable(table, trainable=False, name="table")
        self.hidden_bias = tf.Variable(hidden_bias, trainable=False, name="hidden_bias")
        self.output = tf.Variable(output, trainable=False, name="output")
        self.output_bias = tf.Variable(output_bias, trainable=False, name="output_bias")
        self.subwords = tf.constant(["", *vocabulary.subwords])
        self.card = tf.constant(card.dump())

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="tokens")])  # type: ignore[untyped-decorator]
    def score(self, tokens: Any) -> dict[str, Any]:
        """`tokens` int32 [n, length], 0 for padding, to `score` float [n, 1], the probability of the second label."""
        summed = tf.reduce_sum(tf.gather(self.table, tokens), axis=1)
        count = tf.math.count_nonzero(tokens, axis=1, keepdims=True, dtype=tf.int32)
        mean = summed / tf.cast(tf.maximum(count, 1), tf.float64)  # a row of padding alone has mean 0, not NaN
        logit = tf.nn.relu(mean + self.hidden_bias) @ self.output + self.output_bias
        return {"score": tf.cast(tf.sigmoid(logit), tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name=IDS)])  # type: ignore[untyped-decorator]
    def vocabulary(self, ids: Any) -> dict[str, Any]:
        """`ids` int32 [n] to `subword` string [n] ("" for an id that is no subword's) and `card` string [n].

        Both outputs keep the leading dimension, so that a server with request batching can split them."""
        known = (ids >= 1) & (ids < tf.size(self.subwords))
        return {
            SUBWORD: tf.gather(self.subwords, tf.where(known, ids, 0)),
            CARD: tf.fill(tf.shape(ids), self.card),
        }


def export(
    model: Any,
    vocabulary: Vocabulary,
    base_path: Path,
    *,
    card: Card | None = None,
    version: int | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Writes `base_path/<version>/` and returns it. `version` is the Unix time unless it is given.

    `files` are added to the folder's `assets.extra`, beside the vocabulary and the card. The folder is written under a
    name that TensorFlow Serving passes over and renamed when it is complete.
    Raises ExportError where it cannot be written or the version is there already; nothing is ever overwritten."""
    card = card or card_of(vocabulary)
    extra = {VOCABULARY_FILE: vocabulary.dump(), CARD_FILE: card.dump(), **(files or {})}
    served = Served(model, vocabulary, card)
    try:
        with _unfinished(base_path) as folder:
            signatures = {"serving_default": served.score, SIGNATURE: served.vocabulary}
            tf.saved_model.save(served, str(folder), signatures=signatures)
            (folder / EXTRA).mkdir()
            for name, content in extra.items():
                (folder / EXTRA / name).write_bytes(content)
            return _publish(folder, base_path, version)
    except OSError as error:
        raise ExportError(f"cannot write a model version into {base_path}: {error}") from error


@contextlib.contextmanager
def _unfinished(base_path: Path) -> Iterator[Path]:
    """A folder in the same file system whose name is no number, removed unless it was renamed."""
    folder = base_path / f".tmp-{os.getpid()}-{time.time_ns()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, base_path: Path, version: int | None) -> Path:
    """Renames to the version's number. Two exports within a second get two numbers."""
    number = int(time.time()) if version is None else version
    while True:
        target = base_path / str(number)
        try:
            if not target.exists():  # rename would replace an empty folder
                return folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if version is not None:
            raise ExportError(f"version {version} is in {base_path} already; a version is never overwritten")
        number += 1
