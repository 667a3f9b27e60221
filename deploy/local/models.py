"""The model the stack serves: found in its folder, or trained when there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from deploy.local.errors import ProcessDied
from trainer.data import from_package
from trainer.versions.layout import EXTRA, FIGURES_FILE, REPORT_FILE

MODEL = "sentiment_classifier"
MODELS = Path("models")


def versions(models: Path = MODELS, model: str = MODEL) -> list[int]:
    """The exported versions, oldest first: folders with a number for a name and a SavedModel in them."""
    return sorted(
        int(folder.name)
        for folder in (models / model).glob("*")
        if folder.name.isdecimal() and (folder / "saved_model.pb").is_file()
    )


def ensure_model(models: Path = MODELS, model: str = MODEL) -> bool:
    """Trains a model when `models` has none, with the trainer's own progress on this terminal; whether it did.

    Raises ProcessDied when the trainer fails; it has said why by then."""
    if versions(models, model):
        return False
    command = [sys.executable, "-m", "trainer", "train", "--models", str(models)]
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        raise ProcessDied(f"The trainer ended with exit code {done.returncode}; what it printed above says why.")
    return True


class _Data(msgspec.Struct):
    digest: str


class _Figures(msgspec.Struct):
    """As much of the trainer's figures as is needed here."""

    data: _Data


def held_out_texts(folder: Path) -> frozenset[str]:
    """The bundled reviews that the version in `folder` was neither trained nor tuned on: the test part of its split.

    Empty where the version does not say that it was trained on just these reviews; then nothing is known."""
    try:
        figures = msgspec.json.decode((folder / EXTRA / FIGURES_FILE).read_bytes(), type=_Figures)
    except (OSError, msgspec.DecodeError):
        return frozenset()
    bundled = from_package()
    return frozenset(example.text for example in bundled.test) if bundled.digest == figures.data.digest else frozenset()


def report(folder: Path) -> Path | None:
    """The training report of the version in `folder`, where it has one."""
    page = folder / EXTRA / REPORT_FILE
    return page if page.is_file() else None
