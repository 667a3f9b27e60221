"""Small real SavedModels for the model server's tests: one of each shape of signature, and one that waits to be let go."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TensorFlow's own, at import
    import tensorflow as tf


def _save(module: Any, base_path: Path, version: int, **signatures: Any) -> None:
    """Writes the version under another name first: a server must never see half of it."""
    hidden = base_path / f"making-{version}"
    tf.saved_model.save(module, str(hidden), signatures=signatures)
    hidden.rename(base_path / str(version))


def save_scorer(base_path: Path, version: int) -> None:
    """`tokens` int32 [n, length] → `score` float32 [n, 1]: the version, plus a thousandth of the tokens' sum."""
    module = tf.Module()
    module.offset = tf.Variable(float(version))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="tokens")])
    def score(tokens: Any) -> Any:
        sums = tf.reduce_sum(tf.cast(tokens, tf.float32), axis=1, keepdims=True)
        return {"score": module.offset + sums / 1000}

    module.score = score
    _save(module, base_path, version, serving_default=score)


def save_mixed(base_path: Path, version: int) -> None:
    """`serving_default`: `words` string [n] and `numbers` int64 [n, 2] → `total` int64 [n], `echo` string [n],
    `raw_bytes` string [n], `half` float16 [n]. `scalar`: `x` float32 [] → `y` float64 [], twice as much.
    `raw`: `words` string [n] → `length` int32 [n]."""
    module = tf.Module()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="words"),
            tf.TensorSpec([None, 2], tf.int64, name="numbers"),
        ]
    )
    def mixed(words: Any, numbers: Any) -> Any:
        total = tf.reduce_sum(numbers, axis=1)
        return {"total": total, "echo": words + "!", "raw_bytes": words + "?", "half": tf.cast(total, tf.float16) / 4}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def scalar(x: Any) -> Any:
        return {"y": tf.cast(x, tf.float64) * 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def raw(words: Any) -> Any:
        return {"length": tf.strings.length(words)}

    module.functions = [mixed, scalar, raw]
    _save(module, base_path, version, serving_default=mixed, scalar=scalar, raw=raw)


def save_waiter(base_path: Path, version: int) -> None:
    """`gate` string [] → `version` int32 []: writes the file `<gate>-entered`, and answers once `<gate>0` and
    `<gate>1` exist."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="gate")])
    def wait(gate: Any) -> Any:
        tf.io.write_file(gate + "-entered", "")
        turn = tf.constant(0)
        while tf.size(tf.io.matching_files(gate + tf.strings.as_string(turn % 2))) == 0:
            turn += 1
        return {"version": tf.constant(version) + 0 * turn}

    module.wait = wait
    _save(module, base_path, version, serving_default=wait)


def save_broken(base_path: Path, version: int) -> None:
    """A version whose graph is not one."""
    folder = base_path / str(version)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\xff not a SavedModel")
