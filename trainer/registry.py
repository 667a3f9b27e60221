"""The versions in a model's folder, as TensorFlow Serving sees them: subfolders whose names are numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.errors import DataError, VersionError
from trainer.figures import Figures
from trainer.layout import EXTRA, FIGURES_FILE, VOCABULARY_FILE
from worker.text import Vocabulary


@dataclass(frozen=True)
class Version:
    """One exported version."""

    number: int
    path: Path

    def vocabulary(self) -> Vocabulary:
        """The vocabulary it was trained with. Raises DataError where it carries none."""
        return read_vocabulary(self.path / EXTRA / VOCABULARY_FILE)

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


def read_vocabulary(path: Path) -> Vocabulary:
    """Reads a `.subwords` file. Raises DataError."""
    try:
        return Vocabulary.parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the vocabulary {path}: {error}") from error
