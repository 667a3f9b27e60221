"""The names of the files in a version's folder."""

from __future__ import annotations

EXTRA = "assets.extra"
"""Files that travel with a SavedModel and that TensorFlow does not look at (tensorflow/cc/saved_model/constants.h)."""
VOCABULARY_FILE = "vocabulary.subwords"
CARD_FILE = "card.json"
FIGURES_FILE = "figures.json"
REPORT_FILE = "report.html"
KERAS_FILE = "model.keras"
