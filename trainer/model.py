"""The model and how it is fitted: mean of subword embeddings, six hidden units, one sigmoid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protos.model_card import Card
from trainer.figures import History
from trainer.quiet import keras
from worker.text import Vocabulary, normalised, subword_encoder

Tokens = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
EMBEDDING_DIM = 64
HIDDEN_UNITS = 6
BATCH_ROWS = 64
BATCHES_PER_POOL = 50
PREDICT_ROWS = 256
PATIENCE_EPOCHS = 2
LEARNING_RATE = 3e-3
AVERAGED_EPOCHS = 1.6
"""The weights that are kept are a moving average over so many epochs (Keras' `ema_momentum`), which is steadier than the
weights of any one batch: it lowers the validation loss, and two seeds differ less."""


@dataclass(frozen=True)
class Encoded:
    """Reviews as token ids, one int32 array a review, and their labels (1.0 positive)."""

    rows: Sequence[Tokens]
    labels: npt.NDArray[np.float32]
    ends: Sequence[Tokens] = ()
    """Where each review's sentences end; only of reviews that are changed in training. See `augmentation`."""


def build(vocabulary_size: int, epoch_batches: int = 1) -> Any:
    """The Keras model, compiled to be fitted with so many batches an epoch.

    It takes int32 tokens [n, length], 0 for padding, and gives one score [n, 1]."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="tokens"),
            keras.layers.Embedding(vocabulary_size, EMBEDDING_DIM, mask_zero=True, name="embedding"),
            keras.layers.GlobalAveragePooling1D(name="mean"),
            keras.layers.Dense(HIDDEN_UNITS, activation="relu", name="hidden"),
            keras.layers.Dense(1, activation="sigmoid", name="score"),
        ],
        name="sentiment_classifier",
    )
    averaging = 1 - 1 / (AVERAGED_EPOCHS * epoch_batches)
    optimizer = keras.optimizers.Adam(LEARNING_RATE, use_ema=True, ema_momentum=averaging)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    return model


def encode(texts: Iterable[str], vocabulary: Vocabulary, card: Card) -> list[Tokens]:
    """Texts to ids as the worker does it for a model with this card: normalised, encoded, cut."""
    encoder = normalised(subword_encoder(vocabulary, max_tokens=card.max_tokens), card.normaliser)
    rows = encoder.encode_many([*texts])
    return [np.frombuffer(rows.tensor([row], tokens).content, "<i4") for row, tokens in enumerate(rows.tokens)]


def pad(rows: Sequence[Tokens]) -> Tokens:
    """Rows as one array [n, longest], filled up with 0."""
    padded = np.zeros((len(rows), max(1, *map(len, rows))), np.int32)
    for into, row in zip(padded, rows, strict=True):
        into[: len(row)] = row
    return padded


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """Padded batches in an order that is new each epoch. Rows of similar length share a batch: sorted inside pools of
    fifty batches, so that a batch still mixes freely while most of the padding, and half of the time, is saved."""

    def __init__(
        self, examples: Encoded, seed: int, change: Callable[[Tokens, Tokens], tuple[Tokens, float]] | None = None
    ) -> None:
        """`change` gives what a batch holds in place of a row and its sentences' ends, in every epoch again, and how much it
        counts."""
        super().__init__()
        self.examples = examples
        self.change = change
        self.random = np.random.default_rng(seed)
        self.lengths = np.array([len(row) for row in examples.rows])
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        """Shuffles. Keras calls it after each epoch."""
        shuffled = self.random.permutation(len(self.lengths))
        pool_rows = BATCH_ROWS * BATCHES_PER_POOL
        pools = [shuffled[at : at + pool_rows] for at in range(0, len(shuffled), pool_rows)]
        ordered = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = [ordered[at : at + BATCH_ROWS] for at in range(0, len(ordered), BATCH_ROWS)]
        self.batches = [batches[index] for index in self.random.permutation(len(batches))]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Tokens, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Tokens [rows, longest], labels [rows, 1] and weights [rows]."""
        chosen = self.batches[index]
        examples = self.examples
        if self.change is None:
            shown = [(examples.rows[row], 1.0) for row in chosen]
        else:
            shown = [self.change(examples.rows[row], examples.ends[row]) for row in chosen]
        rows, weights = zip(*shown, strict=True)
        return pad(rows), examples.labels[chosen, None], np.array(weights, np.float32)


def fit(model: Any, train: Batches, validation: Batches, *, epochs: int, on_batch: Callable[[int], None]) -> History:
    """Fits, and leaves in `model` the weights of the epoch with the lowest validation loss; stops once that has not
    fallen for `PATIENCE_EPOCHS`. `on_batch` is called after each batch with the epoch, which counts from 1."""
    best = keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE_EPOCHS, restore_best_weights=True)
    fitted = model.fit(
        train,
        validation_data=validation,
        epochs=epochs,
        verbose=0,
        # In this order: the averaged weights are in the model by the time the best are put aside.
        callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True), best, _Progress(on_batch)],
    )
    figures = {name: [float(value) for value in values] for name, values in fitted.history.items()}
    return History(
        figures["loss"], figures["accuracy"], figures["val_loss"], figures["val_accuracy"], best.best_epoch + 1
    )


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Tells of each finished batch."""

    def __init__(self, on_batch: Callable[[int], None]) -> None:
        super().__init__()
        self.epoch = 0
        self.on_batch = on_batch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002  Keras' signature
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002  Keras' signature
        self.on_batch(self.epoch)


def predict(call: Callable[[Tokens], Any], rows: Sequence[Tokens]) -> Scores:
    """Scores [n] of rows, in their order, from a Keras model or anything else that takes tokens [n, length] and gives
    scores [n, 1]."""
    scores = np.empty(len(rows), np.float32)
    order = np.argsort([len(row) for row in rows], kind="stable")  # rows of like length share a call
    for at in range(0, len(order), PREDICT_ROWS):
        chosen = order[at : at + PREDICT_ROWS]
        scores[chosen] = np.asarray(call(pad([rows[row] for row in chosen])))[:, 0]
    return scores
