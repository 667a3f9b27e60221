"""Models for tests: a tiny one that is made in a second, and the real one."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from protos.model_card import Card
from trainer import model as keras_model
from trainer.card import card_of
from trainer.quiet import tf
from trainer.versions import registry
from trainer.versions.export import export
from worker.text import Vocabulary, normaliser

GOOD = "good great fantastic wonderful excellent fabulous superb perfect loved best fun brilliant".split()  # noqa: SIM905  words read best as a line
BAD = "bad awful aweful terrible boring horrible worst poor dull hated waste stupid".split()  # noqa: SIM905  words read best as a line
PLAIN = "the a that this movie film i saw other day was is it and of to in plot actor scene br really".split()  # noqa: SIM905  words read best as a line
LETTERS = "e t a o i n s h r d l u c m w f g y p b v k an er ing ed ly ous ful un re th he".split()  # noqa: SIM905  words read best as a line
SCORE_ROWS = 256
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class TinyModel:
    """An exported version, tiny or not, and the scores it gives without any server."""

    path: Path
    vocabulary: Vocabulary
    version: int
    card: Card
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def ids(self, text: str) -> list[int]:
        """The text's ids, the plain way, normalised as the card says; not cut."""
        return self.vocabulary.encode_ids(normaliser(self.card.normaliser)(text))

    def score(self, texts: Sequence[str]) -> list[float]:
        """The SavedModel's own scores: encoded by the vocabulary, cut at the card's limit."""
        rows = [np.array(self.ids(text)[: self.card.max_tokens], np.int32) for text in texts]
        if "signature" not in self._loaded:  # the signature alone does not keep the variables alive
            self._loaded["model"] = tf.saved_model.load(str(self.path))
            self._loaded["signature"] = self._loaded["model"].signatures["serving_default"]
        scores: list[float] = []
        for at in range(0, len(rows), SCORE_ROWS):
            tokens = tf.constant(keras_model.pad(rows[at : at + SCORE_ROWS]))
            scores += self._loaded["signature"](tokens=tokens)["score"].numpy()[:, 0].tolist()
        return scores


def tiny_vocabulary(seed: int = 0, texts: Sequence[str] = ()) -> Vocabulary:
    """Subwords for the words above and those of `texts`, in an order of the seed's: two seeds encode differently."""
    words = {*GOOD, *BAD, *PLAIN, "That", *(word for text in texts for word in text.split() if word.isalnum())}
    subwords = sorted({*(f"{word}_" for word in words), *words, *(piece for piece in LETTERS if len(piece) > 1)})
    np.random.default_rng(seed).shuffle(subwords)
    return Vocabulary(subwords)


def tiny_weights(vocabulary: Vocabulary, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Weights that were set rather than fitted: a good word pulls the score up, a bad one down, noise tells seeds apart."""
    random = np.random.default_rng(seed)
    embedding = random.normal(0, 0.3, (vocabulary.size, keras_model.EMBEDDING_DIM))
    for token, subword in enumerate(vocabulary.subwords, 1):
        word = subword.removesuffix("_")
        embedding[token, 0] += 4.0 * ((word in GOOD) - (word in BAD))
    hidden = random.normal(0, 0.05, (keras_model.EMBEDDING_DIM, keras_model.HIDDEN_UNITS))
    hidden[0, :2] = (1.0, -1.0)
    output = random.normal(0, 0.2, (keras_model.HIDDEN_UNITS, 1))
    output[:2, 0] = (8.0, -8.0)
    bias = np.zeros(keras_model.HIDDEN_UNITS)
    return [embedding, hidden, bias, output, np.array([0.2])]


def export_tiny(
    base_path: Path,
    *,
    version: int,
    seed: int = 0,
    texts: Sequence[str] | None = None,
    threshold: float = 0.6,
    max_tokens: int = 4096,
    normaliser: str = "",
    uncertain: tuple[float, float] | None = None,
) -> TinyModel:
    """Exports a small real model as `base_path/<version>/`. Another seed: other weights and another order of the subwords,
    so that ids of one version mean something else to another. `texts` add their words to the vocabulary."""
    vocabulary = tiny_vocabulary(seed, texts or ())
    model = keras_model.build(vocabulary.size)
    model.set_weights(tiny_weights(vocabulary, seed))
    card = card_of(vocabulary, threshold=threshold, max_tokens=max_tokens, normaliser=normaliser, uncertain=uncertain)
    path = export(model, vocabulary, base_path, card=card, version=version)
    return TinyModel(path, vocabulary, version, card)


def full_model(models_dir: Path = ROOT / "models") -> TinyModel:
    """The newest version of the real model; trained first, which takes minutes, where there is none yet.

    Trained once, however many ask at the same time."""
    base_path = models_dir / "sentiment_classifier"
    base_path.mkdir(parents=True, exist_ok=True)
    with (models_dir / ".training.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not registry.versions(base_path):
            subprocess.run(
                [sys.executable, "-m", "trainer", "train", "--models", str(models_dir)], cwd=ROOT, check=True
            )
    version = registry.newest(base_path)
    return TinyModel(version.path, version.vocabulary(), version.number, version.card())
