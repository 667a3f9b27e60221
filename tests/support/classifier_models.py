"""Small real SavedModels of every kind of text classifier that the worker serves by settings alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.models import tiny_weights
from trainer import model as keras_model
from trainer.quiet import keras, tf
from worker.text import Vocabulary

VERSION = 7


@dataclass(frozen=True)
class SavedClassifier:
    """An exported model, run without any server."""

    path: Path
    signature: str
    input_name: str
    output_name: str

    def outputs(self, fed: Sequence[Any]) -> list[list[float]]:
        """What the signature answers to each row by itself, and so without padding: [rows][outputs]."""
        loaded = tf.saved_model.load(str(self.path))
        call = loaded.signatures[self.signature]
        return [
            np.ravel(call(**{self.input_name: tf.constant(each[np.newaxis])})[self.output_name]).tolist()
            for each in map(np.asarray, fed)
        ]


def _save(
    module: Any, base_path: Path, signature: str, call: Any, input_name: str, output_name: str
) -> SavedClassifier:
    path = base_path / str(VERSION)
    tf.saved_model.save(module, str(path), signatures={signature: call})
    return SavedClassifier(path, signature, input_name, output_name)


def save_tokens(
    base_path: Path,
    vocabulary_size: int,
    *,
    input_name: str = "tokens",
    output_name: str = "score",
    signature: str = "serving_default",
    dtype: Any = tf.int32,
    length: int | None = None,
    padding_id: int = 0,
    outputs: int = 1,
    activation: str = "sigmoid",
) -> SavedClassifier:
    """Token ids [n, length] → scores float32 [n, outputs]: a linear model of the mean of all that is no padding.

    `activation` is `sigmoid`, `softmax`, or `linear` for logits."""
    module = tf.Module()
    weights = np.random.default_rng(outputs).normal(0, 12.0, (max(vocabulary_size, padding_id + 1), outputs))
    module.weights = tf.Variable(weights)  # float64: the order of the terms makes no difference that float32 shows

    @tf.function(input_signature=[tf.TensorSpec([None, length], dtype, name=input_name)])
    def score(tokens: Any) -> Any:
        real = tf.cast(tokens != padding_id, tf.float64)[:, :, tf.newaxis]
        summed = tf.reduce_sum(tf.gather(module.weights, tokens) * real, axis=1)
        mean = summed / tf.maximum(tf.reduce_sum(real, axis=1), 1)
        activated = {"sigmoid": tf.sigmoid, "softmax": tf.nn.softmax, "linear": tf.identity}[activation](mean)
        return {output_name: tf.cast(activated, tf.float32)}

    module.score = score
    return _save(module, base_path, signature, score, input_name, output_name)


def save_text(base_path: Path, *, without_score: str = "") -> SavedClassifier:
    """`text` string [n] → `score` float32 [n, 1]: splits the words by itself and looks them up by their hash. A text with
    the word `without_score` in it has the score NaN."""
    module = tf.Module()
    module.weights = tf.Variable(np.random.default_rng(0).normal(0, 12.0, 1_000))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def score(text: Any) -> Any:
        words = tf.strings.split(text)
        buckets = tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, words, 1_000)
        mean = tf.reduce_mean(tf.ragged.map_flat_values(lambda ids: tf.gather(module.weights, ids), buckets), axis=1)
        if without_score:
            found = tf.reduce_any(tf.ragged.map_flat_values(lambda word: word == without_score, words), axis=1)
            mean = tf.where(found, tf.constant(float("nan"), mean.dtype), mean)
        return {"score": tf.cast(tf.sigmoid(mean), tf.float32)[:, tf.newaxis]}

    module.score = score
    return _save(module, base_path, "serving_default", score, "text", "score")


def save_keras_positional(base_path: Path, vocabulary: Vocabulary) -> SavedClassifier:
    """The tutorial's Keras layers, with the signature that Keras 2 gives them: `embedding_input` float32 [n, length], as
    an embedding's input has its weights' dtype there, → `dense_1` float32 [n, 1]. Nothing is masked."""
    model = keras.Sequential(
        [
            keras.layers.Embedding(vocabulary.size, keras_model.EMBEDDING_DIM),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(keras_model.HIDDEN_UNITS, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.build((None, None))
    model.set_weights(tiny_weights(vocabulary))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="embedding_input")])
    def call(embedding_input: Any) -> Any:
        return {"dense_1": model(tf.cast(embedding_input, tf.int32))}

    module = tf.Module()
    module.variables_ = model.variables
    module.variables_of_layers = [variable.value for variable in model.variables]
    module.call = call
    return _save(module, base_path, "serving_default", call, "embedding_input", "dense_1")


def save_masked(base_path: Path) -> SavedClassifier:
    """Two inputs, `ids` and `mask` int32 [n, length], of which the worker could feed one only."""
    module = tf.Module()
    spec = [tf.TensorSpec([None, None], tf.int32, name=name) for name in ("ids", "mask")]

    @tf.function(input_signature=spec)
    def score(ids: Any, mask: Any) -> Any:
        return {"score": tf.sigmoid(tf.cast(tf.reduce_sum(ids * mask, axis=1, keepdims=True), tf.float32))}

    module.score = score
    return _save(module, base_path, "serving_default", score, "ids", "score")
