"""An exported version, asked in this process: encoded as the worker encodes, scored by the SavedModel that is served."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer import model as keras_model
from trainer.quiet import tf
from trainer.versions.registry import Version


class Scorer:
    """A loaded version. Raises DataError where it carries no vocabulary or card."""

    def __init__(self, version: Version) -> None:
        self.card = version.card()
        self._vocabulary = version.vocabulary()
        self._loaded = tf.saved_model.load(str(version.path))  # the signature alone does not keep the variables alive
        self._signature = self._loaded.signatures["serving_default"]

    def encode(self, texts: Iterable[str]) -> list[keras_model.Tokens]:
        """Token ids, one int32 array a text: normalised and cut as the card says."""
        return keras_model.encode(texts, self._vocabulary, self.card)

    def score(self, rows: Sequence[keras_model.Tokens]) -> keras_model.Scores:
        """Scores [n] of encoded texts."""
        return keras_model.predict(self.call, rows)

    def call(self, tokens: keras_model.Tokens) -> keras_model.Scores:
        """One call of the model: padded tokens [n, length] to scores [n, 1]."""
        return self._signature(tokens=tf.constant(tokens))["score"].numpy()  # type: ignore[no-any-return]
