"""The model the stack serves: found in its folder, or trained when there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.local.errors import ProcessDied

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
