"""`make demo` in a folder as a clone is, to its end: with the compiled encoder, and where no C compiler was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.broker import JARS
from deploy.local.jars import ensure_jars
from worker.text import compiled

pytestmark = pytest.mark.lasts(25)

ROOT = Path(__file__).parents[2]
PACKAGES = ("worker", "producer", "trainer", "protos", "deploy", "tests")
REVIEWS = 200


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One module in the folder, whose own packages come before the installed ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("INFERRY_", "CI", "PYTEST"))}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(folder), "COLUMNS": "120"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def without_extension(folder: Path) -> None:
    """The sources as they are installed where there is no compiler."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A new folder with the jars in place, so that nothing is downloaded."""
    ensure_jars(JARS)
    (tmp_path / JARS).parent.mkdir()
    (tmp_path / JARS).symlink_to(JARS.absolute())
    return tmp_path


@pytest.mark.parametrize("encoder", ["compiled", "automaton"])
def test_the_demo_answers_every_review(encoder: str, folder: Path, model_base_path: Path) -> None:
    if encoder == "automaton":
        without_extension(folder)
    elif not compiled.available():
        pytest.skip("the extension is not built: there was no C compiler")

    done = run(folder, "deploy.local", "demo", f"--reviews={REVIEWS}", f"--models={model_base_path.parent}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{REVIEWS}, each answered" in done.stdout, done.stdout
    assert "That movie i saw the other day was fantastic" in done.stdout
    assert "Everything the demo started has been stopped" in done.stdout
    assert "The worker's status page, while the demo runs: http://127.0.0.1:" in done.stdout
    log = (folder / ".inferry" / "demo" / "logs" / "worker.log").read_text()
    assert f'"encoder":"{encoder}"' in log.replace('": "', '":"'), log


def test_the_encoders_tests_pass_where_there_is_no_compiler(folder: Path) -> None:
    without_extension(folder)
    text = "tests/unit/worker/text"

    done = run(folder, "pytest", "-q", "-p", "no:cacheprovider", text, CC="/no/compiler")
    assert done.returncode == 0, done.stdout + done.stderr
