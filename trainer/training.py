"""The whole of `inferry-trainer train`: reviews to vocabulary to model to an exported version with its report."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from protos.model_card import PLAIN_1, Card
from trainer import calibration, data, evaluation, vocabulary
from trainer import model as keras_model
from trainer.augmentation import Augmentation, sentences
from trainer.card import card_of
from trainer.errors import BelowStandard
from trainer.figures import Calibration, Data, Figures, History, Sentence, libraries
from trainer.options import Training
from trainer.quiet import keras, tf
from trainer.report import report
from trainer.steps import Steps
from trainer.versions.export import Served, export
from trainer.versions.layout import FIGURES_FILE, KERAS_FILE, REPORT_FILE
from worker.text import Vocabulary, normaliser

NORMALISER = PLAIN_1
EXAMPLES = (
    ("That movie i saw the other day was fantastic", "positive"),
    ("I loved it", "positive"),
    ("What a great film!", "positive"),
    ("One of the best movies I have ever seen.", "positive"),
    ("A wonderful story and superb acting", "positive"),
    ("THIS MOVIE WAS AMAZING!!!", "positive"),
    ("I hated every minute of it", "negative"),
    ("Terrible acting and a boring plot", "negative"),
    ("A complete waste of time", "negative"),
    ("It was ok, nothing special", "negative"),
    ("The worst film of the year", "negative"),
    ("Absolutely brilliant, I cried and laughed.", "positive"),
)
"""The sentences a model has to get right."""
HARD_EXAMPLES = (
    ("That movie i saw the other day was fantabulous", "positive"),
    ("That movie i saw the other day was aweful", "negative"),
    ("That movie was fantabulous", "positive"),
    ("Not bad at all", "positive"),
    ("It is not the worst film I have seen", "positive"),
    ("I would watch it again", "positive"),
    ("This movie was not good", "negative"),
    ("I did not like it", "negative"),
    ("I can't recommend it", "negative"),
    ("Don't watch this", "negative"),
    ("So bad it's good", "positive"),
)
"""Sentences whose sentiment is all in a word that hardly a review has, which another seed or machine reads otherwise, and
sentences whose meaning is in the order of their words, which the mean over subwords loses. The figures keep what becomes of
them; none keeps a model back."""
LEAST_ACCURACY = 0.87
"""Of the test part, counted at a score of 0.5, as Keras does. A model that misses it is not exported."""


def train(base_path: Path, options: Training, steps: Steps) -> tuple[Path, Figures]:
    """Trains a model and exports it as the next version in `base_path`; returns the version's folder and its figures.

    The same options on the same machine give the same model.
    Raises BelowStandard, and exports nothing, when the model misses `LEAST_ACCURACY` or gets a sentence wrong."""
    keras.utils.set_random_seed(options.seed)
    tf.config.experimental.enable_op_determinism()

    with steps.step("Reading the reviews"):
        reviews = data.load(options.data, options.data_dir)
        reviews = replace(reviews, train=reviews.train[: options.limit])
    steps.say(f"Trained on {reviews.source}.")
    with steps.step("Building the vocabulary"):
        normalise = normaliser(NORMALISER)
        words = vocabulary.build((normalise(example.text) for example in reviews.train), options.vocabulary_size)
        card = card_of(words, max_tokens=options.max_tokens, normaliser=NORMALISER, uncertain=options.uncertain)
    with steps.step("Encoding"):
        parts = [_encode(part, words, card) for part in (reviews.train, reviews.validation, reviews.test)]
        parts[0] = replace(parts[0], ends=_ends(reviews.train, parts[0], words, card))
    batches = keras_model.Batches(parts[0], options.seed, Augmentation(words, options.seed))
    model = keras_model.build(words.size, len(batches))
    with steps.fitting(options.epochs, len(batches)) as on_batch:
        validation = keras_model.Batches(parts[1], options.seed)
        history = keras_model.fit(model, batches, validation, epochs=options.epochs, on_batch=on_batch)
        calibrated = _calibrate(model, parts[1])
    with steps.step("Testing and drawing the report"):
        trained = Trained(model, words, card)
        figures, test_scores = _figures(trained, reviews, parts, history, calibrated, options, steps)
        page = report.html(figures, test_scores, parts[2].labels > 0)
    if options.limit is None:
        check(figures)
    with steps.step("Exporting"):
        files = {FIGURES_FILE: figures.dump(), REPORT_FILE: page, KERAS_FILE: _keras_file(model)}
        return export(model, words, base_path, card=card, files=files), figures


class Trained:
    """A fitted model as it will be served."""

    def __init__(self, model: Any, words: Vocabulary, card: Card) -> None:
        self.model, self.vocabulary, self.card = model, words, card
        self._served = Served(model, words, card)

    def scores(self, rows: Sequence[keras_model.Tokens]) -> keras_model.Scores:
        """The exported graph's scores [n]."""
        return keras_model.predict(lambda tokens: self._served.score(tf.constant(tokens))["score"], rows)

    def sentence(self, text: str, expected: str) -> Sentence:
        """One example sentence, scored and labelled as the worker would."""
        pieces = self.vocabulary.pieces(normaliser(self.card.normaliser)(text))
        score = float(self.scores([np.array([token for token, _ in pieces], np.int32)])[0])
        label = self.card.labels[score >= self.card.threshold]
        return Sentence(text, [subword for _, subword in pieces], score, label, expected)


def _encode(examples: Sequence[data.Example], words: Vocabulary, card: Card) -> keras_model.Encoded:
    rows = keras_model.encode((example.text for example in examples), words, card)
    return keras_model.Encoded(rows, np.array([example.positive for example in examples], np.float32))


def _ends(
    examples: Sequence[data.Example], encoded: keras_model.Encoded, words: Vocabulary, card: Card
) -> list[keras_model.Tokens]:
    """Where the sentences of each review end. One whose sentences do not add up to it, since it was cut or a tag lies
    across them, is one sentence."""
    parts = [sentences(example.text) for example in examples]
    counts = np.array([len(row) for row in keras_model.encode((each for part in parts for each in part), words, card)])
    last = np.cumsum([len(part) for part in parts])
    found = [np.cumsum(of, dtype=np.int32) for of in np.split(counts, last[:-1])]
    return [
        ends if ends[-1] == len(row) else np.array([len(row)], np.int32)
        for ends, row in zip(found, encoded.rows, strict=True)
    ]


def _calibrate(model: Any, validation: keras_model.Encoded) -> Calibration:
    """Fits a calibration to the validation part and folds it into the model."""
    logits = calibration.logits(model.get_weights(), validation.rows)
    found = calibration.fit(logits, validation.labels > 0)
    calibration.fold(model, found)
    return found


def _figures(
    trained: Trained,
    reviews: data.Reviews,
    parts: Sequence[keras_model.Encoded],
    history: History,
    calibrated: Calibration,
    options: Training,
    steps: Steps,
) -> tuple[Figures, keras_model.Scores]:
    """What the report tells, and the test part's scores."""
    _, validation, test = parts
    scores = trained.scores(test.rows)
    keras_scores = keras_model.predict(trained.model, test.rows)
    threshold = trained.card.threshold
    figures = Figures(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=options.seed,
        epochs=options.epochs,
        data=Data(reviews.source, reviews.digest, len(reviews.train), len(reviews.validation), len(reviews.test)),
        vocabulary_size=trained.card.vocabulary_size,
        vocabulary_digest=trained.card.digest,
        history=history,
        test=evaluation.quality(scores, test.labels > 0, threshold),
        validation=evaluation.quality(trained.scores(validation.rows), validation.labels > 0, threshold),
        sentences=[trained.sentence(text, expected) for text, expected in EXAMPLES],
        largest_difference_from_keras=float(np.max(np.abs(scores - keras_scores))),
        libraries=dict(libraries()),
        cpu_seconds=dict(steps.cpu_seconds),
        calibration=calibrated,
        hard_sentences=[trained.sentence(text, expected) for text, expected in HARD_EXAMPLES],
    )
    return figures, scores


def check(figures: Figures) -> None:
    """Raises BelowStandard with all that is wrong."""
    wrong = [
        f"“{sentence.text}” scores {sentence.score:.3f}, which is {sentence.label}, not {sentence.expected}"
        for sentence in figures.sentences
        if not sentence.right
    ]
    if figures.test.accuracy_at_half < LEAST_ACCURACY:
        wrong.append(
            f"only {figures.test.accuracy_at_half:.2%} of the test part is labelled right, {LEAST_ACCURACY:.0%} is asked"
        )
    if wrong:
        raise BelowStandard(f"the trained model was not exported: {'; '.join(wrong)}. Another --seed may do better")


def _keras_file(model: Any) -> bytes:
    """The Keras model itself, for those who want to go on from it; without the optimizer, which is most of its size."""
    bare = keras.Sequential.from_config(model.get_config())
    bare.set_weights(model.get_weights())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, KERAS_FILE)
        bare.save(path)
        return path.read_bytes()
