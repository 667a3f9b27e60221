"""TensorFlow, TensorFlow Datasets and Keras without their walls of log lines. Imported by name from here only.

`from trainer.quiet import keras, tf` costs a few seconds, so `trainer.__main__` imports modules that do it late."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from trainer.errors import MissingExtra


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Sends this process's stderr to nowhere, at the level of the file descriptor: TensorFlow's C++ code logs a few lines
    while it loads, before it looks at TF_CPP_MIN_LOG_LEVEL."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # the model is far too small for a GPU to help
try:
    with _silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf
        import tensorflow_datasets as tfds

        keras = tf.keras
        keras.Sequential, tfds.deprecated.text.SubwordTextEncoder  # noqa: B018  both load when they are first used
except ImportError as error:
    raise MissingExtra(
        f"training needs the trainer extra ({error.name} is not installed): pip install 'inferry[trainer]'"
    ) from None

for name in ("absl", "tensorflow"):
    logging.getLogger(name).setLevel(logging.ERROR)

__all__ = ["keras", "tf", "tfds"]
