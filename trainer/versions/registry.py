"""The versions in a model's folder, as TensorFlow Serving sees them: subfolders whose names are numbers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from protos.model_card import Card
from trainer.errors import DataError, VersionError
from trainer.figures import Figures
from trainer.versions.layout import CARD_FILE, EXTRA, FIGURES_FILE, VOCABULARY_FILE
from worker.errors import ModelMismatch
from worker.text import Vocabulary, normaliser


@dataclass(frozen=True)
class Version:
    """One exported version."""

    number: int
    path: Path

    def vocabulary(self) -> Vocabulary:
        """The vocabulary it was trained with. Raises DataError where it carries none."""
        return read_vocabulary(self.path / EXTRA / VOCABULARY_FILE)

    def card(self) -> Card:
        """Raises DataError where it carries none."""
        path = self.path / EXTRA / CARD_FILE
        try:
            return Card.parse(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read the card {path}: {error}") from error

    def normaliser(self) -> Callable[[str], str]:
        """What is done to a text before it is encoded. Raises DataError where it carries no card or one of tomorrow."""
        try:
            return normaliser(self.card().normaliser)
        except ModelMismatch as error:
            raise DataError(f"version {self.number}: {error}") from error

    def figures(self) -> Figures | None:
        """Its training's figures; None where it was not trained by `inferry-trainer train`."""
        try:
            return Figures.parse((self.path / EXTRA / FIGURES_FILE).read_bytes())
        except (OSError, ValueError):
            return None


def versions(base_path: Path) -> list[Version]:
    """All complete versions, oldest first."""
    folders = [folder for folder in base_path.glob("*") if folder.name.isdecimal()]
    found = [Version(int(folder.name), folder) for folder in folders if (folder / "saved_model.pb").is_file()]
    return sorted(found, key=lambda version: version.number)


def newest(base_path: Path) -> Version:
    """Raises VersionError where there is none."""
    found = versions(base_path)
    if not found:
        raise VersionError(
            f"there is no model in {base_path} yet: run `inferry-trainer train`, or name another --models"
        )
    return found[-1]


def named(base_path: Path, number: int) -> Version:
    """Raises VersionError where it is not there."""
    found = versions(base_path)
    for version in found:
        if version.number == number:
            return version
    there = ", ".join(str(version.number) for version in found) or "none"
    raise VersionError(f"there is no version {number} in {base_path}; there are: {there}")


def prunable(base_path: Path, keep: int, labelled: Collection[int]) -> list[Version]:
    """All but the newest `keep` versions and those that bear a label, oldest first."""
    found = versions(base_path)
    return [version for version in found[: max(0, len(found) - keep)] if version.number not in labelled]


def delete(version: Version) -> None:
    """Removes a version, out of a server's sight in one step. Raises VersionError."""
    doomed = version.path.with_name(f".tmp-deleted-{version.number}-{os.getpid()}")
    try:
        version.path.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise VersionError(f"cannot delete {version.path}: {error}") from error


def read_vocabulary(path: Path) -> Vocabulary:
    """Reads a `.subwords` file. Raises DataError."""
    try:
        return Vocabulary.parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the vocabulary {path}: {error}") from error
